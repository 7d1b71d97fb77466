"""Request lines going out: reading, checking, and putting them in a deployment's form."""
