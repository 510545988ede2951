"""HTML pages that need nothing else: no script, no font, no address. Rendered from `templates/` by Jinja.

Everything that a template prints is escaped unless a drawing made it, and what no page can carry is replaced;
a policy in the page forbids scripts too.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from optkit.report import charts
from optkit.report.charts import figures
from optkit.report.scores import cells


def render(template: str, **values: Any) -> str:
    """The page of `template`, a name in optkit/report/templates, with `values` as its variables."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("optkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else figures.clean(value),
    )
    environment.globals |= {
        "style": Markup(files("optkit.report").joinpath("html.css").read_text(encoding="utf-8")),
        "figures": figures,
        "charts": charts,
        "flat": flat,
        "score_cells": cells,
        "json": _json,
    }
    return environment


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts with dotted names."""
    facts: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, list):
            item = ", ".join(map(str, item))
        elif isinstance(item, float):
            item = f"{item:.6g}"
        facts |= flat(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return facts


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)
