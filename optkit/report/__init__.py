"""The report and its renderers, one file per format, each a function from a `Report` to a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optkit.core.registry import Registry

RENDERERS: Registry[Callable[[Any], str]] = Registry(
    "report format",
    "optkit.renderers",
    {name: f"optkit.report.{name}:render" for name in ("csv", "html", "json", "junit", "markdown")},
)
