"""Tables, screens and signals."""
