"""Data sets: a folder of train/validation/test files, a single file, or a hub data set.

What is on this machine is opened by its name, never as a pattern, a URL or from a cache (see
`optkit.data.tables.read`); hub data sets are read through the `datasets` library.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.files import read_json, sha256
from optkit.core.quantities import COUNT
from optkit.data import audio, class_folders, detection, images, masks
from optkit.data.tables.read import ENDINGS
from optkit.data.tables.read import read as read_tables
from optkit.data.tables.splits import regular, split_files, split_named
from optkit.errors import DataError

if TYPE_CHECKING:
    import datasets


#: Beside the files of a folder: column → names of its classes, which the rows have as numbers.
CLASSES = "labels.json"
#: Share of the training split that stands in for a missing validation split.
HELD_OUT = 0.1


@dataclass(frozen=True)
class Data:
    """Where examples come from. `name` is a path, or `owner/name[:config]` on the hub.

    `seed` shuffles the split that is made when the source has none.
    """

    name: str
    seed: int = 0

    @property
    def is_local(self) -> bool:
        try:
            return Path(self.name).exists()
        except (OSError, ValueError) as reason:  # a name that is too long, a folder that may not be entered
            why = getattr(reason, "strerror", None) or reason
            raise DataError(f"Cannot read {self.name!r}: {why}.") from reason

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Split → files, for a local source. A single file is called `all`."""
        path = Path(self.name)
        if not path.is_dir():
            if regular(path).suffix not in ENDINGS:
                raise DataError(f"Expected a file ending in {', '.join(ENDINGS)}, received {str(path)!r}.")
            return {"all": [path]}
        splits = (
            split_files(path, ENDINGS)
            or detection.find(path)
            or masks.find(path)
            or audio.find(path)
            or images.find(path)
        )
        if not splits:
            raise DataError(
                f"Expected files such as train.jsonl and validation.csv in {self.name!r}, received: "
                f"{', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}.",
                hint=f"Known endings: {', '.join(ENDINGS)}; splits: train, validation, test. "
                "Images and sounds lie in one folder per class, images also in idx files.",
            )
        return splits

    def split(self, name: str, limit: int | None = None) -> datasets.Dataset:
        """The rows of split `name` (`train`, `validation` or `test`): at most `limit` rows of it.

        A source without a validation split gives a fixed tenth of its training split, which
        then is left out of `train`. Raises DataError for missing, empty or unreadable splits.
        """
        available = self.splits
        if name in available:
            rows = self.whole(name)
            if name == "train" and "validation" not in available:
                rows = self._divided("train")["train"]
        elif name == "validation" and "train" in available:
            rows = self._divided("train")["test"]
        elif "all" in available and name in ("train", "validation"):
            rows = self._divided("all")["train" if name == "train" else "test"]
        else:
            raise DataError(f"Expected a split {name!r} in {self.name!r}, received: {', '.join(available)}.")
        if len(rows) == 0:
            raise DataError(
                f"The split {name!r} of {self.name!r} is empty.", hint="Give data with at least one example."
            )
        return drawn(rows, limit)

    @cached_property
    def splits(self) -> list[str]:
        if self.is_local:
            return list(self.files)
        return sorted(self._hub)

    def is_held_out(self, name: str) -> bool:
        """Whether split `name` was made from another one because the source has none."""
        return name not in self.splits

    def fingerprint(self, name: str) -> str:
        """sha256 of the files behind split `name`; of the rows' fingerprint for a hub data set."""
        if not self.is_local:
            return hashlib.sha256(self.split(name)._fingerprint.encode()).hexdigest()
        files = self.files.get(name) or self.files.get("train") or self.files["all"]
        if detection.is_voc(files[0]):
            return detection.fingerprint(files[0])
        if files[0].is_dir():
            return class_folders.fingerprint(files, (*images.ENDINGS, *audio.ENDINGS))
        return sha256(files[0]) if len(files) == 1 else _joint(files)

    def whole(self, name: str) -> datasets.Dataset:
        """All rows of a split that the source has, none held out."""
        return _read(self.files[name]) if self.is_local else self._hub[name]

    def _divided(self, name: str) -> datasets.Dataset:
        rows = self.whole(name)
        if len(rows) < 2:
            raise DataError(
                f"Expected at least two rows in {self.name!r}, one of them for validation, "
                f"received {len(rows)}.",
                hint="Give more rows, or a validation split of its own.",
            )
        return rows.train_test_split(test_size=HELD_OUT, seed=self.seed)

    @cached_property
    def _hub(self) -> dict[str, Any]:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?", self.name):
            raise DataError(
                f"Expected a folder, a file or a hub data set, received {self.name!r}, which does not exist."
            )
        import datasets

        repository, _, config = self.name.partition(":")
        if (
            repository in datasets.packaged_modules._PACKAGED_DATASETS_MODULES
        ):  # readers of files, no data sets
            raise DataError(f"Expected a folder, a file or a hub data set, received {self.name!r}.")
        try:
            loaded = datasets.load_dataset(repository, config or None)
        except Exception as reason:
            raise DataError(
                f"{self.name!r} is no local path, and could not be had from the hub: "
                f"{str(reason).splitlines()[0][:300]}",
                hint="Check the spelling and the network, or give a local folder.",
            ) from reason
        splits = {split_named(name) or name: rows for name, rows in loaded.items()}
        if len(splits) < len(loaded):
            raise DataError(f"{self.name!r} has several splits of one kind: {', '.join(loaded)}.")
        return splits


def drawn(
    rows: datasets.Dataset, limit: int | None, keys: Sequence[object] | None = None
) -> datasets.Dataset:
    """At most `limit` of `rows`, drawn with a fixed seed over all of them, in their order.

    With `keys`, one for each row, those of equal keys count as one and stay together.
    """
    groups = {key: i for i, key in enumerate(dict.fromkeys(range(len(rows)) if keys is None else keys))}
    count = len(groups)
    if limit is None or COUNT.check(limit, "limit") >= count:
        return rows
    chosen = np.random.default_rng(0).permutation(count)[:limit]
    owner = range(count) if keys is None else [groups[key] for key in keys]
    return rows.select(np.flatnonzero(np.isin(owner, chosen)))


def _read(files: list[Path]) -> datasets.Dataset:
    if detection.is_voc(files[0]):
        return detection.read_voc(files[0])
    if len(files) == 2 and files[1].is_dir():
        return masks.read(files)
    if audio.lies_in(files):
        return class_folders.read(files[0], audio.ENDINGS, "audio")
    if files[0].suffix not in ENDINGS:
        return images.read(files)
    if detection.is_coco(files[0]):
        return detection.read_coco(files)
    rows = _with_classes(read_tables(files), files[0].parent / CLASSES)
    return images.located(rows, files[0].parent) if len(rows) else rows


def _with_classes(rows: datasets.Dataset, file: Path) -> datasets.Dataset:
    """`rows` with columns of numbers as classes, where `file` names them. Raises DataError.

    Another file of this name, which holds no list of names for such a column, changes nothing.
    """
    try:
        named = read_json(file, ValueError)
    except ValueError:
        return rows
    for name, names in named.items():
        feature = rows.features.get(name)
        whole = str(getattr(feature, "dtype", "")).startswith("int") and not hasattr(feature, "names")
        if not isinstance(names, list) or not whole:
            continue
        import datasets

        if len(set(map(str, names))) < len(names) or not all(isinstance(x, (str, int)) for x in names):
            raise DataError(
                f"Expected different names for column {name!r} in {str(file)!r}, each a text.",
                hint="Correct the file, or take it away: then labels are numbers.",
            )
        highest = max((value for value in rows[name] if value is not None), default=0)
        if highest >= len(names):
            raise DataError(
                f"Expected numbers below {len(names)} in column {name!r}, since {str(file)!r} has so many "
                f"names, received {highest}.",
                hint="Correct the labels or the names, or take the file away: then labels are numbers.",
            )
        rows = rows.cast_column(name, datasets.ClassLabel(names=list(map(str, names))))
    return rows


def _joint(files: list[Path]) -> str:
    return hashlib.sha256("".join(sha256(f) for f in files).encode()).hexdigest()
