"""What every room may use: files, locks, outputs, schemas of outside files, processes, registries."""
