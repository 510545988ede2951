"""The report and its renderers, one file per format, each a function from a `Report` to a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from optkit.core.registry import Registry

if TYPE_CHECKING:
    from optkit.report.model import Report

RENDERERS: Registry[Callable[[Report], str]] = Registry(
    "report format",
    "optkit.renderers",
    {name: f"optkit.report.{name}:render" for name in ("csv", "html", "json", "junit", "labels", "markdown")},
)
