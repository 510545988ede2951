"""Labelled text that every machine has: docstrings of Python's standard library, by subject area.

Real text under a clear licence (PSF), and nothing to download. The label is the area of the module
that the docstring stands in, as the library reference groups them.
"""

from __future__ import annotations

import ast
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

AREAS: dict[str, tuple[str, ...]] = {
    "networking": (
        "asyncio/streams", "asyncio/transports", "asyncio/protocols", "email", "ftplib", "http", "imaplib",
        "ipaddress", "nntplib", "poplib", "smtplib", "smtpd", "socket", "socketserver", "ssl", "telnetlib",
        "urllib", "wsgiref", "xmlrpc", "webbrowser", "mailbox", "cgi", "nturl2path",
    ),
    "files": (
        "bz2", "filecmp", "fileinput", "fnmatch", "genericpath", "glob", "gzip", "lzma", "ntpath", "os",
        "pathlib", "posixpath", "shutil", "tarfile", "tempfile", "zipapp", "zipfile", "zipimport", "_pyio",
        "stat", "linecache", "importlib/resources", "_compression", "aifc", "wave", "sunau",
    ),
    "numbers": (
        "_pydecimal", "colorsys", "fractions", "numbers", "random", "statistics", "_pydatetime", "datetime",
        "calendar", "_strptime", "decimal", "hashlib", "secrets", "hmac",
    ),
    "concurrency": (
        "asyncio/base_events", "asyncio/events", "asyncio/futures", "asyncio/locks", "asyncio/queues",
        "asyncio/runners", "asyncio/subprocess", "asyncio/taskgroups", "asyncio/tasks", "asyncio/timeouts",
        "asyncio/unix_events", "asyncio/base_subprocess", "asyncio/selector_events", "concurrent",
        "multiprocessing", "queue", "sched", "subprocess", "threading", "_threading_local", "selectors",
        "contextvars", "signal",
    ),
    "text": (
        "argparse", "codecs", "csv", "difflib", "encodings", "gettext", "html", "json", "locale", "optparse",
        "pprint", "re", "shlex", "string", "textwrap", "tokenize", "xml", "configparser", "tomllib",
        "getopt", "plistlib", "reprlib", "quopri", "base64", "stringprep", "sre_parse",
    ),
    "data structures": (
        "_collections_abc", "_weakrefset", "abc", "bisect", "collections", "copy", "copyreg", "dataclasses",
        "enum", "functools", "graphlib", "heapq", "operator", "pickle", "pickletools", "shelve", "types",
        "typing", "weakref", "dbm", "keyword", "_py_abc",
    ),
}  # fmt: skip


#: Enough to learn the areas from, and few enough for a demo on two cores.
MOST = 2000
SPLITS = ("train", "validation", "test")


def write_docstrings(folder: Path, seed: int = 0) -> dict[str, int]:
    """Write train.jsonl, validation.jsonl and test.jsonl (70, 15, 15%); the number of texts in each.

    Identical texts are kept once, so that none is in two splits.
    """
    examples = sorted(set(docstrings()))
    random.Random(seed).shuffle(examples)
    del examples[MOST:]
    first, second = int(len(examples) * 0.70), int(len(examples) * 0.85)
    parts = {
        "train": examples[:first],
        "validation": examples[first:second],
        "test": examples[second:],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in part)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {name: len(part) for name, part in parts.items()}


def is_docstrings(folder: Path) -> bool:
    """Whether `folder` holds what `write_docstrings` wrote, and nothing else."""
    if not folder.is_dir() or {file.name for file in folder.iterdir()} != {f"{s}.jsonl" for s in SPLITS}:
        return False
    try:
        texts = [(folder / f"{split}.jsonl").read_text(encoding="utf-8") for split in SPLITS]
        rows = [json.loads(line) for text in texts for line in text.split("\n") if line]
    except ValueError:
        return False
    return all(
        isinstance(row, dict) and set(row) == {"text", "label"} and row["label"] in AREAS for row in rows
    )


def docstrings() -> Iterator[tuple[str, str]]:
    """(text, area) for every docstring of at least four words in the modules of `AREAS`."""
    library = Path(sysconfig.get_path("stdlib"))
    for area, modules in AREAS.items():
        for module in modules:
            file, package = library / f"{module}.py", library / module
            files = [file] if file.exists() else sorted(package.rglob("*.py")) if package.is_dir() else []
            for source in files:
                if "test" not in source.parts and "tests" not in source.parts:
                    yield from ((text, area) for text in _docstrings_of(source))


def _docstrings_of(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = " ".join((ast.get_docstring(node) or "").split())
            if len(text.split()) >= 4:
                yield text[:300]
