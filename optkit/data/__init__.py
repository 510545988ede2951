"""Data sets, columns, encoded examples, tables, images, built-in texts."""
