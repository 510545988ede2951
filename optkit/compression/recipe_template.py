"""`template`: a recipe to edit, made from the passes' own documentation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from optkit.compression.recipe import Recipe
from optkit.compression.steps import options_of
from optkit.core.cpu import has_vnni
from optkit.passes import PASSES


def template() -> str:
    """A commented recipe to edit, made from the passes' own documentation. Loads as `Recipe.int8()`."""
    names = [option[0].name() for option in options_of(Recipe.int8().steps[1])]
    fields = "" if has_vnni() else ", reduce_range = true"
    alternatives = ", ".join(f'[{{ pass = "{name}"{fields} }}]' for name in names)
    lines = [
        "# An optkit recipe. Use it with: optkit compress CKPT --recipe THIS_FILE --data DATA --out OUT",
        "# `optkit passes` lists every pass and field.",
        "",
        'target = "cpu"',
        "",
        "[gate]",
        'max_drop = "1%"      # relative to the baseline; "0.01" is absolute in the metric',
        "# min_speedup = 1.5   # against torch fp32, at the lower end of its interval",
        "# batch_invariant = true   # an answer may not depend on the texts in its batch",
        "",
        "[[steps]]",
        'pass = "export-onnx"',
        *_field_lines("export-onnx"),
        "",
        "# Alternatives from the same point: the fastest that passes the gate is kept.",
        "[[steps]]",
        f"any_of = [{alternatives}]",
        "",
    ]
    for name in names:
        lines += [f"# Fields of {name}, as in {{ pass = {name!r}, per_channel = false }}:".replace("'", '"')]
        lines += [*_field_lines(name), ""]
    return "\n".join(lines)


def _field_lines(name: str) -> Iterable[str]:
    for f in dataclasses.fields(PASSES[name]):
        choices = f.metadata.get("choices")
        doc = f.metadata["doc"] + (f" ({', '.join(map(str, choices))})" if choices else "")
        if f.default is None:  # TOML has no null
            yield f"# {f.name}: not set  # {doc}"
            continue
        default = json.dumps(list(f.default) if isinstance(f.default, tuple) else f.default)
        yield f"# {f.name} = {default}  # {doc}"
