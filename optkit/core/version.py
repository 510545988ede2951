"""The one place that holds the version; `optkit.__version__` is it."""

__version__ = "0.1.0"
