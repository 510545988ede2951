"""Text files of rows: CSV, TSV and lines, as every command reads them."""
