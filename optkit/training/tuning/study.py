"""`open_study`: begin a study or join it, and refuse one that asks something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optkit.errors import RecipeError
from optkit.training.tuning.space import Space
from optkit.training.tuning.storage import open_storage, shown

if TYPE_CHECKING:
    import optuna


#: The study's attribute that holds what it was begun with.
FACTS = "optkit"


@dataclass(frozen=True)
class Objective:
    """A number to make large, or small. `unit` stands behind it where it is shown."""

    name: str
    maximize: bool
    unit: str = ""


def open_study(
    url: str,
    name: str,
    space: Space,
    objectives: Sequence[Objective],
    facts: dict[str, Any],
    sampler: str,
    pruner: str = "none",
    most_steps: int = 1,
    seed: int = 0,
) -> optuna.Study:
    """The Optuna study `name` at `url`, new or as other processes and earlier runs left it.

    `facts` are what its numbers depend on (model, data, task, ...) as JSON values. Raises RecipeError
    where the study was begun with another space, other objectives or other facts: their trials do not
    compare. Sampler, pruner and seed may change; they only decide what is tried next.
    """
    import optuna

    from optkit.training.tuning.samplers import make_pruner, make_sampler

    made_sampler = make_sampler(sampler, space, seed, len(objectives))
    made_pruner = make_pruner(pruner, most_steps)
    direction = optuna.study.StudyDirection
    directions = [direction.MAXIMIZE if o.maximize else direction.MINIMIZE for o in objectives]
    study = optuna.create_study(
        storage=open_storage(url),
        study_name=name,
        sampler=made_sampler,
        pruner=made_pruner,
        directions=directions,
        load_if_exists=True,
    )
    wanted = {"objectives": [o.name for o in objectives], "space": space.to_dict(), **facts}
    known = study.user_attrs.get(FACTS)
    if known is None and study.get_trials(deepcopy=False):
        raise RecipeError(
            f"The study {name!r} in {shown(url)!r} was not made by optkit.",
            hint="Give another --study NAME.",
        )
    if known is None:
        study.set_user_attr(FACTS, wanted)
    else:
        _check_same(known, wanted, name, shown(url))
    return study


def _check_same(known: dict[str, Any], wanted: dict[str, Any], name: str, url: str) -> None:
    """RecipeError that names the first thing in which they differ."""
    for key in wanted:
        if known.get(key) == wanted[key]:
            continue
        before, now = _differing(known.get(key), wanted[key])
        raise RecipeError(
            f"The study {name!r} in {url!r} was begun with another {key}: {before}; received {now}.",
            hint="Trials of two kinds do not compare. Begin another study with --study NAME, or give "
            f"the {key} that this one was begun with.",
        )


def _differing(before: object, now: object) -> tuple[str, str]:
    """Both as text; of two tables only what differs."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return str(before), str(now)
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return tuple(", ".join(f"{k}={x.get(k, '(absent)')}" for k in keys) for x in (before, now))  # type: ignore[return-value]
