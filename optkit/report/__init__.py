"""The report and its renderers, one file per format."""
