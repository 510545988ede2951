"""Runs bad invocations and damaged files, and says what is wrong with how they end."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.forks import Fork
from tests.hostile.forks import Outcome, run
from tests.hostile.invocations import REFUSALS, cases
from tests.hostile.mutations import damaged, mutations
from tests.hostile.scene import listing, scene


@dataclass(frozen=True)
class Trial:
    """`words` of a command, S being the folder of inputs and OUT a new name; `codes` it may end with.

    `harm` makes the folder of inputs out of the scene; None: the scene itself.
    """

    group: str
    words: tuple[str, ...]
    codes: tuple[int, ...]
    about: str = ""
    harm: Callable[[Path, Path], Path] | None = None

    @property
    def name(self) -> str:
        shown = " ".join(w if len(w) < 60 else f"{w[:20]}...({len(w)})" for w in self.words)
        return f"{shown} {self.about}".strip().encode("unicode_escape").decode()


class Campaign:
    """Works in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scene = scene(folder / "inputs")
        Fork([sys.executable, "-c", ""]).wait()  # what is forked has imported all before any clock runs

    def trials(self) -> Iterator[Trial]:
        for case in cases():
            yield Trial(case.verb, (*case.verb.split(), *case.words), case.codes)
        for mutation in mutations(self._scene):
            yield Trial(
                "damage",
                tuple(mutation.words.split()),
                (0, *REFUSALS),
                f"[{mutation.name}: {mutation.kind}]",
                lambda root, to, m=mutation: damaged(m, root, to),  # type: ignore[misc]
            )

    def run(self, trial: Trial) -> tuple[Outcome, list[str]]:
        """How it ended, and what is wrong with that."""
        work = self._folder / "work" / "here"
        work.mkdir(parents=True)
        root = trial.harm(self._scene, self._folder / "damaged") if trial.harm else self._scene
        try:
            ended, found = self._flaws(trial, root, work)
        finally:
            shutil.rmtree(work.parent)
            shutil.rmtree(self._folder / "damaged", ignore_errors=True)
        if not trial.harm and any("inputs changed" in flaw for flaw in found):
            shutil.rmtree(self._scene)
            scene(self._scene)
        return ended, found

    def _flaws(self, trial: Trial, root: Path, work: Path) -> tuple[Outcome, list[str]]:
        before, outside = listing(root), listing(work.parent)
        words = [
            re.sub(r"(?<![\w/])S(?=/)", str(root), w).replace("OUT", str(work / "out")) for w in trial.words
        ]
        ended = run(words, work, until="Uvicorn running" if trial.group == "serve" else "")
        found = []
        if ended.code is None:
            found.append("hangs")
        elif ended.code not in trial.codes:
            found.append(f"exit code {ended.code}")
        if "Traceback" in ended.err or "bug in optkit" in ended.err:
            found.append("a traceback")
        if ended.code:
            found += _said(ended.err)
        changed = set(listing(root).items()) ^ set(before.items())
        if changed and not (trial.harm and ended.code == 0):
            found.append(f"inputs changed: {sorted(changed)[:4]}")
        if ended.code in REFUSALS and (left := set(listing(work.parent)) ^ set(outside)):
            found.append(f"left behind: {sorted(left)[:4]}")
        return ended, found


def _said(text: str) -> list[str]:
    """What is wrong with the words of a refusal: an error in one line and at most a hint, beside progress."""
    lines = [x for x in text.splitlines() if not re.match(r" +\d+\.\d s  |\{|reading '", x)]
    found = []
    if [x.partition(":")[0] for x in lines] not in (["error"], ["error", "hint"]):
        found.append(f"says {len(lines)} lines")
    if any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in text):
        found.append("control characters")
    if max(map(len, lines), default=0) > 2000:
        found.append("a line of over 2,000 characters")
    return found
