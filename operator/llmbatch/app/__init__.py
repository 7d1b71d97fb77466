"""The process: settings, wiring and the command line."""
