"""The providers' accounts: listed, searched, and told of."""
