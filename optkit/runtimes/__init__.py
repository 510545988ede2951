"""The runtimes, one file each; the file's name is the runtime's name."""
