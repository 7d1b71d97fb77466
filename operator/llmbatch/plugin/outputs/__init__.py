"""Reading a job's results, wherever they are."""
