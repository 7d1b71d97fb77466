"""From a file of requests to the objects that run it."""
