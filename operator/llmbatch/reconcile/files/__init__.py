"""BatchFiles: validated once, with a copy on every deployment."""
