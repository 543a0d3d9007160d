"""What moves the return, and what it is worth to know it better."""
