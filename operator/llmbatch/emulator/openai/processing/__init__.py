"""What becomes of a batch: its input is checked, its requests are answered, its state follows from the time."""
