"""What there is to tell of jobs, and how it is shown."""
