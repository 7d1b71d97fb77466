"""The life of a file and of its copies."""
