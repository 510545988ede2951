"""From the names of a space to a chain of passes.

PASS.FIELD      a field of a pass, such as prune.share; 0 in one of SWITCHES leaves its pass out
PASS            true or false: whether that pass is there at all
quantize        the last pass: an INT8 scheme with its engine, or none (fp32 in ONNX Runtime)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.compression.recipe import Recipe
from optkit.core.artifact import Artifact
from optkit.core.files import sha256
from optkit.errors import DataError, RecipeError, did_you_mean
from optkit.models.adapter import merged_or_whole
from optkit.passes import PASSES
from optkit.passes.base import Pass, make
from optkit.training.tuning.space import Space, Value

if TYPE_CHECKING:
    import optuna


LAST = "quantize"
EXPORT = "export-onnx"
#: Fields whose 0 leaves the pass out: nothing removed, nothing trained, all layers kept.
SWITCHES = ("prune.share", "distill.epochs", "take-layers.layers")
#: Fields that name what is read beside the checkpoint and the data: a folder, and a file.
TEACHER, TEXTS = "distill.teacher", "distill.unlabelled"
#: The order of `optkit compress`. Distillation repairs what the passes before it damaged; a pass that is not
#: named here damages too. Texts are read by other tokens once the vocabulary is cut, so that comes last.
CUTS, AFTER = ("take-layers", "prune", "prune-width"), ("distill", "prune-vocabulary")
#: A model of fewer layers is not made shallower unless it is asked for.
FEWEST_LAYERS = 4
#: What is searched where nothing is asked for, beside the INT8 schemes of the installed engines.
PRUNE_SPACE = (
    "prune.share=uniform(0,0.7,0.1)",
    "prune.criterion=kprune,fisher",
    "distill.epochs=0,1,3",
    "distill.temperature=1,2,4",
    "distill.hidden=0,1",
)


def default_space(prunable: bool, depth: int = 0) -> list[str]:
    """Pruning and distillation where the model can be pruned, and every INT8 scheme that can be made here.

    `depth` is the number of its layers; with enough of them fewer layers are searched too.
    """
    schemes = dict.fromkeys(chain[-1].name() for chain in Recipe.int8().chains())
    layers = [f"take-layers.layers=0,{depth // 2},{round(depth * 2 / 3)}"] if depth >= FEWEST_LAYERS else []
    return [*((*PRUNE_SPACE, *layers) if prunable else ()), f"{LAST}={','.join(['none', *schemes])}"]


def check_space(space: Space, own_data: bool = True) -> None:
    """RecipeError for a name or a value that no chain could have.

    DataError for a pass that needs data with labels, where there is none of the model's `own_data`.
    """
    known = [LAST, *_training_passes()]
    known += [f"{name}.{f.name}" for name, cls in PASSES.items() for f in dataclasses.fields(cls)]
    space.check(known, _accept)
    passes = PASSES
    steps = [step for name in space.dimensions if (step := name.partition(".")[0]) in passes]
    needed = next((s for s in steps if passes[s].needs_own_data), None)
    if needed is not None and not own_data:
        raise DataError(
            f"Expected data of the model's own task to search {needed}, which learns from it or cuts by it; "
            "received none.",
            hint="Give --data, or search what does without: --space quantize=none,quantize-dynamic.",
        )


def read_beside(space: Space) -> dict[str, str]:
    """The teachers and files of texts that `space` names, and what is in them now.

    Raises CheckpointError or DataError where one is missing.
    """
    contents_by_name = {}
    for name in (TEACHER, TEXTS):
        values = space.dimensions[name].points() if name in space.dimensions else []
        for path in (Path(str(value)) for value in values if value is not None):
            if name == TEXTS and not path.is_file():
                raise DataError(
                    f"Expected {name} to be a file of texts, received {str(path)!r}.",
                    hint="Give the path of a .txt, JSONL, CSV or Parquet file.",
                )
            contents = sha256(path) if name == TEXTS else Artifact.open(merged_or_whole(path)).fingerprint()
            contents_by_name[f"{name} {path}"] = contents[:12]
    return contents_by_name


def ask_chain(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """Ask `trial` for what its chain needs: no temperature where nothing is distilled, and layers left out
    only where it is (`compress --layers` needs `--distill`), or where the space says nothing of it."""
    chosen: dict[str, Any] = {}
    names = list(space.dimensions)
    first = [n for n in names if n == LAST or n in SWITCHES or "." not in n]
    first.sort(key=lambda name: name.startswith("take-layers"))
    for name in [*first, *(n for n in names if n not in first)]:
        step = name.partition(".")[0]
        if step == "take-layers" and "distill" not in _present(space, chosen):
            continue
        if name in first or step == EXPORT or step == chosen.get(LAST) or step in _present(space, chosen):
            chosen[name] = space.dimensions[name].suggest(trial, name)
    return chosen


def chain_of(chosen: Mapping[str, Any]) -> tuple[Pass, ...]:
    """The passes of one trial, in the order of `optkit compress` whatever the order of `chosen`.

    >>> [step.name() for step in chain_of({"prune.share": 0.4, "take-layers.layers": 3, "quantize": None})]
    ['take-layers', 'prune', 'export-onnx']
    """
    fields: dict[str, dict[str, Any]] = {}
    for name, value in chosen.items():
        step, dot, field = name.partition(".")
        if dot:
            fields.setdefault(step, {})[field] = value
        elif step != LAST and value:
            fields.setdefault(step, {})
    absent = {n for n, v in chosen.items() if n != LAST and not v and (n in SWITCHES or "." not in n)}
    training = [name for name in fields if name in _training_passes() and not {name, _switch(name)} & absent]
    last = chosen.get(LAST)
    names = [*sorted(training, key=_place), EXPORT, *([last] if last else [])]
    return tuple(make(name, fields.get(name, {})) for name in names)


def _present(space: Space, chosen: Mapping[str, Any]) -> set[str]:
    """Training passes that the values chosen so far leave in the chain."""
    names = set()
    for name in _training_passes():
        switches = [n for n in (name, _switch(name)) if n in space.dimensions]
        if all(chosen.get(n) for n in switches):
            names.add(name)
    return names


def _place(name: str) -> int:
    """Where the training pass `name` stands in a chain."""
    order = (*CUTS, "", *AFTER)
    return order.index(name if name in order else "")


def _switch(name: str) -> str:
    return next((s for s in SWITCHES if s.startswith(f"{name}.")), "")


def _training_passes() -> list[str]:
    """Passes that make another checkpoint (and do not only say how one is served)."""
    known = PASSES.items()
    return [n for n, cls in known if cls.produces == "hf" and "hf" in cls.accepts and cls.runtime is None]


def _last_passes() -> list[str]:
    return [n for n, cls in PASSES.items() if "onnx" in cls.accepts]


def _accept(name: str, value: Value) -> None:
    step, dot, field = name.partition(".")
    if name == LAST:
        known = _last_passes()
        if value is not None and value not in known:
            raise RecipeError(f"Unknown pass {value!r}.", hint=did_you_mean(str(value), known))
    elif not dot:
        if not isinstance(value, bool):
            raise RecipeError(f"Expected true or false, received {value!r}.")
    elif name not in SWITCHES or value != 0:
        make(step, {field: value})
