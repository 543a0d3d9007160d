"""What the repository holds and how it becomes something that answers: read, placed, opened, measured, kept, let go."""
