"""To the files of other programs, and back."""
