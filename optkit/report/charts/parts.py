"""The HTML parts that the page is made of: escaped text, lists, tables in a box of their own, folds."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Any

from optkit.report.charts import figures


def text(value: object) -> str:
    """Escaped, printable text for an element or a quoted attribute."""
    return escape(figures.clean(value), quote=True)


def page(title: str, body: Iterable[str]) -> str:
    """The whole document around `body`, whose last part is inside of an open <main>."""
    style = files("optkit.report").joinpath("html.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title>\n<style>\n{style}</style></head>\n"
        f"<body>{chr(10).join(part for part in body if part)}\n</main></body></html>\n"
    )


def section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def bullets(lines: Iterable[str]) -> str:
    inner = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f"<ul>{inner}</ul>" if inner else ""


def grid(panels: list[str]) -> str:
    inner = "".join(f"<div>{panel}</div>" for panel in panels if panel)
    return f'<div class="grid">{inner}</div>' if inner else ""


def table(name: str, heads: Iterable[str], lines: Iterable[tuple[str, list[str]]]) -> str:
    """A table of already escaped cells, in a box of its own that scrolls."""
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    rows = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, cells in lines
    )
    return scroll(name, f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>")


def scroll(name: str, table: str) -> str:
    return f'<div class="scroll" role="region" aria-label="{text(name)}" tabindex="0">{table}</div>'


def details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def facts(facts: dict[str, Any]) -> str:
    inner = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts.items() if v != "")
    return f'<dl class="facts">{inner}</dl>' if inner else ""


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
