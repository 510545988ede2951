"""Bad invocations of every verb: each option with each kind of bad value, and inputs of the wrong kind.

Verbs and options are read from the command line itself, so that a new one is tried without a line here; a new
verb fails until `BASES` says how it is called rightly.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typer.models import OptionInfo, TyperInfo

from optkit.cli import app

#: How a verb is called rightly and cheaply; S is the folder of inputs, OUT a new name. Several where options
#: exclude one another; the first that takes an option is used, see `base_for`.
_TIMED = "--rounds 1 --processes 1 --shapes 1x8 --threads 1"
BASES = {
    "compress": [
        f"S/model --recipe S/recipe.toml --data S/data --out OUT {_TIMED}",
        f"S/model --prune 0.5 --distill --epochs 0.01 --data S/data --out OUT {_TIMED}",
        f"S/model --int8 --runtime onnxruntime --data S/data --out OUT {_TIMED}",
    ],
    "search": [f"S/model --data S/data --out OUT --trials 1 --space quantize=none {_TIMED}"],
    "build": ["S/artifact --out OUT"],
    "bench": [
        f"S/artifact --data S/data --out OUT {_TIMED}",
        f"S/artifact --self-check --comparisons 2 --data S/data {_TIMED}",
    ],
    "demo": ["--out OUT"],
    "preprocess": ["S/rows.jsonl --out OUT"],
    "finetune": ["S/model --data S/data --out OUT --epochs 1 --max-length 16"],
    "distill": ["S/model --teacher S/model --data S/data --out OUT --epochs 0.01 --threads 1"],
    "tune": ["S/model --data S/data --out OUT --trials 1 --space epochs=1"],
    "predict": ["S/artifact good", "S/artifact --input S/rows.jsonl --output OUT.jsonl"],
    "serve": ["S/artifact --port 0"],
    "gate": ["S/report.json --baseline S/baseline.json"],
    "report render": ["S/report.json --out OUT.md"],
    "report compare": ["S/report.json S/baseline.json"],
    "report merge": ["S/report.json S/baseline.json --out OUT.json"],
    "recipe init": ["OUT.toml"],
    "recipe check": ["S/recipe.toml"],
    "recipe schema": [""],
    "passes": ["prune"],
    "package": ["S/artifact --format zip --out OUT"],
    "info": ["S/artifact"],
    "sign": ["S/artifact --key S/key.pem"],
}
#: Options that another base than the first is for.
_SECOND = {
    "compress": {
        1: {
            "--prune",
            "--distill",
            "--epochs",
            "--layers",
            "--teacher",
            "--unlabelled",
            "--prune-vocabulary",
        },
        2: {"--int8", "--runtime", "--target"},
    },
    "bench": {1: {"--self-check", "--comparisons", "--slowdown"}},
    "predict": {
        1: {"--output", "--input", "--text-column", "--pair-column", "--keep", "--chunk", "--ray", "--force"}
    },
}
LONG = "n" * 300
#: What no number is.
NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "", LONG, "9" * 5000, "0x10", "1;2", "\udc80")
#: Numbers that are none of anything.
OUT_OF_RANGE = ("-1", "1e30", "-0.5", str(2**63), str(-(2**63) - 1))
TEXTS = (
    "",
    LONG,
    "../x",
    "/dev/null",
    "/dev/full",
    "S/pipe",
    "S/empty",
    "\udc80",
    "a\nb",
    "a\0b",
    "nan",
    "\x1b[31mx",
)
#: What is no model, data, recipe or report.
INPUTS = (
    *(
        "S/absent",
        "",
        ".",
        "S/empty",
        "S/junk",
        "S/pipe",
        "S/bytes.bin",
        "S/nothing.jsonl",
        "/dev/null",
        "/dev/full",
    ),
    *(
        "/dev/zero",
        "S/" + LONG,
        LONG,
        "S/\udc80",
        "S/a\nb",
        "a\0b",
        "S/texts.txt/x",
        "/proc/self/mem",
        "S/data",
    ),
    *(
        "https://127.0.0.1:1/x",
        "S/../S/absent",
        "\x1b[31mx",
        "S/model/model.safetensors",
        "S/artifact/optkit.json",
    ),
)
#: What cannot be written, or must not.
OUTPUTS = (
    *("", ".", "..", "/", LONG, "S/" + LONG, "/dev/null", "/dev/full", "S/pipe", "a\0b", "S/texts.txt/x"),
    *("/proc/x", "S/artifact", "S/model", "S/data", "S/artifact/inside", "S/model/config.json"),
)
#: Options that name a file or folder to read.
READ = {
    *(
        "--data",
        "--teacher",
        "--unlabelled",
        "--recipe",
        "--input",
        "--model",
        "--baseline",
        "--api-key-file",
    ),
    *("--tls-cert", "--tls-key", "--shadow", "--key", "--verify-key"),
}
WRITTEN = {"--out", "--output"}
#: Options with a list of words, and what a verb calls its own: nothing in TEXTS is one.
WORDS = {
    *("--task", "--metric", "--runtime", "--sampler", "--pruner", "--objective", "--format", "--segment"),
    *(
        "--optimizer",
        "--schedule",
        "--precision",
        "--class-weights",
        "--mixed-precision",
        "--target",
        "--space",
    ),
    *(
        "--storage",
        "--shapes",
        "--scenario",
        "--cores",
        "--slowdown",
        "--max-drop",
        "--max-slowdown",
        "--option",
    ),
    *("--min-agreement", "--shares", "--split", "--text-column", "--pair-column", "--label-column", "--row"),
    *("--tag", "--keep", "--host"),
}
REFUSALS = (2, 4, 5, 6, 7)
#: Verbs that work for seconds where they accept a value: fewer texts that may be right are tried with them.
_SLOW = {"tune", "search", "compress", "finetune", "distill", "bench", "demo"}


@dataclass(frozen=True)
class Case:
    """`words` of one invocation of `verb`; `codes` are those that it may end with."""

    verb: str
    kind: str
    words: tuple[str, ...]
    codes: tuple[int, ...] = REFUSALS


@dataclass(frozen=True)
class Option:
    """An option as the command line declares it: `kind` is the type of its value, bool that of a flag."""

    kind: type
    multiple: bool


@dataclass(frozen=True)
class Verb:
    name: str
    options: dict[str, Option]


def verbs() -> list[Verb]:
    """Every verb that there is, `report render` and the like by two words."""
    found = [Verb(x.name or "", _options(x.callback)) for x in app.registered_commands]
    for group in app.registered_groups:
        assert isinstance(group, TyperInfo)
        assert group.typer_instance
        for inner in group.typer_instance.registered_commands:
            found.append(Verb(f"{group.name} {inner.name}", _options(inner.callback)))
    return found


def _options(callback: Any) -> dict[str, Option]:
    found = {}
    for name, hint in typing.get_type_hints(callback, include_extras=True).items():
        info = next((x for x in getattr(hint, "__metadata__", ()) if isinstance(x, OptionInfo)), None)
        if info is None:
            continue
        kinds = [k for k in typing.get_args(hint.__origin__) or (hint.__origin__,) if k is not type(None)]
        multiple = typing.get_origin(kinds[0]) is list or typing.get_origin(hint.__origin__) is list
        kind = typing.get_args(kinds[0])[0] if typing.get_args(kinds[0]) else kinds[0]
        names = [x for x in info.param_decls or () if x.startswith("--")]
        found[names[0] if names else f"--{name.replace('_', '-')}"] = Option(kind, multiple)
    return found


def base_for(verb: Verb, option: str) -> list[str]:
    """The words of a right call without `option`."""
    numbers = [i for i, names in _SECOND.get(verb.name, {}).items() if option in names]
    words = BASES[verb.name][numbers[0] if numbers else 0].split()
    while option in words:
        i = words.index(option)
        del words[i : i + (1 if verb.options[option].kind is bool else 2)]
    return words


def cases() -> Iterator[Case]:
    for verb in verbs():
        for name, option in verb.options.items():
            words = base_for(verb, name)
            for value, codes in _values(verb.name, name, option):
                yield Case(verb.name, name, (*words, name, value), codes)
            if option.kind is not bool and not option.multiple and name in " ".join(BASES[verb.name]):
                yield Case(verb.name, "no value", (*words, name), (2,))
        yield from _positional(verb)
        first = BASES[verb.name][0].split()
        yield Case(verb.name, "unknown", (*first, "--no-such-option"), (2,))
        yield Case(verb.name, "unknown", (*first, "--no-such-option=1"), (2,))
        yield Case(verb.name, "unknown", (*first, "-Z"), (2,))
        if verb.name not in ("demo", "passes", "recipe init", "recipe schema"):
            yield Case(verb.name, "nothing", (), (2,))
    yield from _exclusive()


def _values(verb: str, name: str, option: Option) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Bad values of an option with the exit codes that each may give."""
    if option.kind is bool:
        return
    if option.kind in (int, float):
        for value in (*NO_NUMBERS, *OUT_OF_RANGE):
            yield value, (2,)
        if not (verb in _SLOW and name == "--seed"):  # which is right, and works for long
            yield "0", (0, *REFUSALS, 3, 8)
        return
    if name in READ:
        inputs = [x for x in INPUTS if not (name in ("--data", "--unlabelled", "--input") and x == "S/data")]
        for value in inputs:
            yield value, REFUSALS
        return
    if name in WRITTEN:
        for value in OUTPUTS:
            yield value, REFUSALS if verb == "build" else (2, 6)  # which looks at its input first
        return
    for value in TEXTS:
        if name in WORDS:
            yield value, REFUSALS
        elif verb not in _SLOW or value in (LONG, "a\nb", "a\0b", "\udc80"):
            yield value, (0, *REFUSALS)


def _positional(verb: Verb) -> Iterator[Case]:
    """Inputs of the wrong kind in the place of each word that is no option's."""
    words = BASES[verb.name][0].split()
    places = [
        i for i, w in enumerate(words) if not w.startswith("--") and not (i and _takes(verb, words[i - 1]))
    ]
    for place in places:
        if words[place] == "good":
            values, codes = ("", LONG, "\udc80", "a\0b", "\x1b[31m", "a\nb", "good " * 5000), (0, *REFUSALS)
        elif words[place].startswith("OUT"):
            values, codes = OUTPUTS, (2, 6)
        else:
            taken = "S/data" if verb.name == "preprocess" else ""
            values, codes = [x for x in INPUTS if x != taken], REFUSALS
        for value in values:
            yield Case(verb.name, "positional", (*words[:place], value, *words[place + 1 :]), codes)


def _takes(verb: Verb, word: str) -> bool:
    return word in verb.options and verb.options[word].kind is not bool


def _exclusive() -> Iterator[Case]:
    """Flags that exclude one another, or need another."""
    pairs = {
        "compress": [
            "S/model --data S/data --out OUT --recipe S/recipe.toml --int8",
            "S/model --data S/data --out OUT",
            "S/model --data S/data --out OUT --int8 --epochs 1",
            "S/model --data S/data --out OUT --int8 --teacher S/model",
            "S/model --data S/data --out OUT --int8 --layers 1",
            "S/model --data S/data --out OUT --int8 --target cuda",
            "S/model --data S/data --out OUT --recipe S/recipe.toml --runtime openvino",
            "S/model --data S/data --out OUT --int8 --shapes 1x8,1x8",
            "S/model --data S/data --out OUT --prune 1",
            "S/model --data S/data --out OUT --prune 0.5 --distill --epochs 0",
            "S/model --data S/data --out OUT --distill --layers 99",
        ],
        "bench": [
            "S/artifact S/artifact --self-check",
            "S/artifact --self-check --out OUT",
            "S/artifact --self-check --scenario offline",
            "S/artifact S/artifact --names a --data S/data",
            "S/artifact S/artifact --names a,a --data S/data",
            "S/artifact@nothing --data S/data",
            "S/artifact --cores 0-99999999999",
            "S/artifact --cores 5-3",
            "S/artifact --metric accuracy",
        ],
        "predict": [
            "S/artifact good --input S/texts.txt",
            "S/artifact --output OUT.jsonl",
            "S/artifact good --stream --json",
            "S/artifact good --ray",
            "S/artifact good --keep id",
            "S/artifact good --temperature 1",
            "S/artifact good --stream",
            "S/artifact --input S/rows.jsonl",
            "S/artifact --input S/rows.jsonl --output S/rows.jsonl --force",
            "S/artifact --input S/rows.jsonl --output OUT.docx",
            "S/artifact --input S/rows.jsonl --output OUT.jsonl --seed 1",
            "S/artifact --input S/rows.jsonl --output OUT.jsonl --keep absent",
            "S/artifact --input S/rows.jsonl --output OUT.jsonl --text-column absent",
            "S/artifact --input S/rows.jsonl --output S/artifact/answers.jsonl",
        ],
        "preprocess": [
            "S/rows.jsonl --out OUT --no-label --stratify",
            "S/rows.jsonl --out OUT --no-label --encode-labels",
            "S/rows.jsonl --out OUT --segment sentences --tag jieba",
            "S/rows.jsonl --out OUT --shares 0,0.5,0.5",
            "S/rows.jsonl --out OUT --shares 2,-1,0",
            "S/rows.jsonl --out OUT --shares nan,nan,nan",
            "S/rows.jsonl --out S/rows.jsonl --force",
        ],
        "serve": [
            "S/artifact S/artifact",
            "S/artifact --tls-cert S/texts.txt",
            "S/artifact --tls-cert S/texts.txt --tls-key S/texts.txt",
            "S/artifact --max-inputs 300 --queue 2",
            "S/artifact --option threads",
            "S/artifact --option threads=-1",
            "S/artifact --option threads=1e400",
            "S/artifact --option threads=NaN",
            "S/artifact --option nothing=1",
            f"S/artifact --option threads={'9' * 5000}",
            f"S/artifact --option threads={'[' * 5000}",
            "S/artifact --port 65536",
            "S/artifact --host 999.1.1.1",
            "S/artifact --host absent.invalid",
            "S/artifact other=S/artifact --shadow S/artifact",
        ],
        "finetune": [
            "S/model --data S/data --out OUT --batch 4 --accumulate 3",
            "S/model --data S/data --out S/data --force",
            "S/model --data S/data --out S/model --force",
            "S/model --data S/data --out OUT --precision fp16 --fsdp",
        ],
        "tune": [
            f"S/model --data S/data --out OUT --space {space}"
            for space in (
                *(
                    "epochs=nan",
                    "epochs=inf",
                    "epochs=-1",
                    "epochs=uniform(1,inf)",
                    "epochs=int(1,2,0)",
                    "x=1",
                ),
                *(
                    "seed=-1",
                    "batch=2.5",
                    "batch=true",
                    "learning_rate=loguniform(0,1)",
                    "=1",
                    "epochs=",
                    "epochs=,",
                ),
                *(
                    "S/recipe.toml",
                    "S/absent.toml",
                    "schedule=none",
                    "epochs=uniform(2,1)",
                    f"epochs={'9' * 5000}",
                ),
                *(
                    "batch=int(1,1e30)",
                    "epochs=1e400",
                    "patience=1e9999",
                    "batch=int(1,2,3,4)",
                    "epochs=uniform(1)",
                ),
                *("learning_rate=uniform(0,1,1e-300)", f"batch=choice({'1,' * 5000}1)"),
            )
        ],
        "search": [
            f"S/model --data S/data --out OUT --space {space}"
            for space in (
                *(
                    "prune.share=nan",
                    "prune.share=2",
                    "x=1",
                    "quantize=x",
                    "distill.epochs=-1",
                    "distill.epochs=inf",
                ),
                *(
                    "prune.share=uniform(0,1,1e-300)",
                    "quantize=",
                    "S/absent.toml",
                    "prune=1",
                    "prune.seed=-1",
                ),
            )
        ],
        "gate": [
            "S/report.json --baseline S/baseline.json --row absent",
            "S/report.json --baseline S/baseline.json --max-drop -1%",
            "S/report.json --baseline S/baseline.json --max-slowdown nan",
        ],
        "report render": ["S/report.json --format doc", "S/report.json --out S/report.json", "S/model"],
        "report merge": [
            "S/report.json --out S/report.json",
            "S/report.json S/baseline.json --out S/baseline.json",
        ],
        "recipe init": ["S/recipe.toml", "S/empty", "S/empty --force"],
        "passes": ["absent", "../prune", "prune prune"],
        "package": [
            "S/artifact --format zip --out OUT --name a/b",
            "S/artifact --format zip --out OUT --version ../1",
            "S/model --format zip --out OUT",
            "S/model --format wheel --out OUT",
            "S/artifact --format zip --out S/artifact --force",
        ],
        "build": ["S/artifact", "S/model"],
    }
    for verb, calls in pairs.items():
        for words in calls:
            yield Case(verb, "together", tuple(words.split()))
