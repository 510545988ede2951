"""What each file from outside may hold. One module per kind of file; imported when a file is read."""
