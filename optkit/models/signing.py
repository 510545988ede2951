"""Signatures of model folders: the OpenSSF's model-signing format with elliptic-curve keys, offline.

`model.sig` in the folder is a Sigstore bundle around an in-toto statement with the sha256 of every other file
there, manifest and reports among them. The OpenSSF's own tool reads and writes the same:
`model_signing verify key FOLDER --signature FOLDER/model.sig --public_key PUBLIC.pem`.
Source: https://github.com/sigstore/model-transparency
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from optkit.core.artifact import SIGNATURE, Artifact, changed, state
from optkit.core.files import belongs, is_inside
from optkit.core.locks import hold
from optkit.core.output import writing
from optkit.core.reading import check_regular, json_value, read_bytes, read_json
from optkit.errors import CheckpointError, MissingDependency, OutputError, RecipeError, first_line

if TYPE_CHECKING:
    from model_signing import hashing

T = TypeVar("T")

#: The environment variable with the password of an encrypted private key.
PASSWORD = "OPTKIT_KEY_PASSWORD"
#: What belongs to git: the hub adds such files, and nothing reads them.
_GIT = (".git", ".gitattributes", ".github", ".gitignore")
_KEY_BYTES = 2**16


def sign(path: str | Path, key: str | Path, *, force: bool = False) -> Path:
    """Sign every file of a model, each compared with the manifest first; others check it by `verify_key`.

    Parameters:
        path: an artifact's or a checkpoint's folder.
        key: the private key, a PEM file of a P-256, P-384 or P-521 key; its password in $OPTKIT_KEY_PASSWORD.
        force: replace the signature that is there.

    Returns the signature's file, in the folder.

    Raises CheckpointError for a damaged folder, RecipeError for another kind of key, OutputError where there
    is a signature and `force` is false, MissingDependency without the extra `sign`.

    >>> import optkit
    >>> optkit.sign("models/sst2-int8", "private.pem")
    PosixPath('models/sst2-int8/model.sig')
    """
    _need_library()
    from model_signing import signing

    folder, before = Path(path), state(path)
    artifact = Artifact.open(folder)
    _check_key(key, folder)
    password = os.environ.get(PASSWORD)
    config = _with_key(
        lambda: signing.Config().use_elliptic_key_signer(
            private_key=key,
            password=password.encode() if password else None,  # type: ignore[arg-type]
        ),
        f"a private key (PEM; P-256, P-384 or P-521; its password in ${PASSWORD})",
        key,
    )
    file = folder / SIGNATURE
    partial = file.with_name(f".{SIGNATURE}.partial-{os.getpid()}")
    with writing(file), hold(folder):
        if os.path.lexists(file) and not force:
            raise OutputError(
                f"{str(folder)!r} has a signature, {SIGNATURE}.", hint="Give --force to sign it again."
            )
        artifact.verify()
        signed_files(folder)
        try:
            config.set_hashing_config(_hashing()).sign(folder, partial)
            if state(folder) != before:
                raise changed(folder)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    return file


def open_signed(path: str | Path, key: str | Path | None) -> Artifact:
    """`Artifact.open`; with a public `key` only where the folder is what that key's owner signed.

    Raises CheckpointError where the signature is missing, another key's, or any file differs; RecipeError for
    what is no public key, MissingDependency without the extra `sign`.
    """
    if key is None:
        return Artifact.open(path)
    _need_library()
    before = state(path)
    artifact = Artifact.open(path)
    _check_signature(artifact.path, key)
    if state(path) != before:
        raise changed(path)
    return artifact


def signed_files(folder: Path) -> list[str]:
    """The names of all files in `folder` that a signature is about, and the signature's own: all but git's.

    Raises CheckpointError where one is no regular file of the folder, or its name is not a plain one.
    """
    from pydantic import TypeAdapter

    from optkit.core.schema.base import FileName, without_plugins

    names = []
    with without_plugins():
        plain = TypeAdapter(FileName)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name.split("/")[0] in _GIT:
            continue
        try:
            if not belongs(file, folder):
                raise CheckpointError(f"{name!r} in {str(folder)!r} points outside of its folder.")
            if file.is_dir():
                continue
            check_regular(file.stat(), file, CheckpointError)
            plain.validate_python(name)
        except (OSError, RuntimeError, ValueError) as reason:  # a link to itself, a name of two lines
            raise CheckpointError(
                f"Expected a plain file with a plain name to sign, received {name!r} in {str(folder)!r}."
            ) from reason
        names.append(name)
    return names


def _check_signature(folder: Path, key: str | Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    _check_key(key, folder)
    config = _with_key(
        lambda: verifying.Config().use_elliptic_key_verifier(public_key=key),
        "a public key (PEM; P-256, P-384 or P-521)",
        key,
    )
    file = folder / SIGNATURE
    if not os.path.lexists(file):
        raise CheckpointError(
            f"Expected a signed model in {str(folder)!r}, received one without {SIGNATURE}.",
            hint="Sign it with optkit sign, or leave out --verify-key.",
        )
    ignored = _ignored(file)
    signed_files(folder)
    try:
        config.set_hashing_config(_hashing()).verify(folder, file)
    except Exception as reason:  # the library's own, and those of what it stands on
        said = first_line(reason)
        if isinstance(reason, InvalidSignature) or said.startswith("Key mismatch"):
            said = "the signature is not that key's"
        elif other := re.search("Hash mismatch for ('.*?'): Expected", said):
            said = f"{other[1]} is another file"
        raise CheckpointError(
            f"{str(folder)!r} is not what was signed with the key of {str(key)!r}: {said}.",
            hint="Copy the folder again from where it was signed, or ask its maker for the key.",
        ) from reason
    if ignored:
        raise CheckpointError(
            f"Expected a signature of all of {str(folder)!r}, received one that leaves out {ignored[0]!r}.",
            hint="Sign it again with optkit sign.",
        )


def _ignored(file: Path) -> list[str]:
    """The files that the signature's statement says it leaves out, beside itself and what is git's."""
    bundle = read_json(file, CheckpointError)
    try:
        assert bundle["verificationMaterial"]["publicKey"]["hint"]
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True)
        statement = cast(dict[str, Any], json_value(payload.decode()))
        names = [str(name) for name in statement["predicate"]["serialization"].get("ignore_paths", [])]
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as reason:
        raise CheckpointError(
            f"Expected a signature by a key in {str(file)!r}, received something else.",
            hint="Sign the folder again, with optkit sign or model_signing sign key.",
        ) from reason
    return sorted(set(names) - {SIGNATURE, *_GIT})


def _hashing() -> hashing.Config:
    """Every file by its sha256; links are those of a hub cache, as `Artifact.open` checked."""
    from model_signing import hashing

    ignoring = hashing.Config().use_file_serialization(allow_symlinks=True)
    return ignoring.set_allow_symlinks(True).set_ignored_paths(paths=[SIGNATURE])


def _check_key(key: str | Path, folder: Path) -> None:
    """Raise RecipeError where `key` is no small file, or lies in the folder that it is for."""
    content = read_bytes(Path(key), RecipeError, _KEY_BYTES)
    if is_inside(Path(key), folder):
        raise RecipeError(f"Expected the key outside of the model, received {str(key)!r}.")
    if not content.lstrip().startswith(b"-----BEGIN "):
        raise RecipeError(f"Expected a key in PEM in {str(key)!r}.", hint=_HOW)


def _with_key(make: Callable[[], T], expected: str, key: str | Path) -> T:
    try:
        return make()
    except Exception as reason:  # ValueError, TypeError and UnsupportedAlgorithm of cryptography
        raise RecipeError(f"Expected {expected} in {str(key)!r}: {first_line(reason)}", hint=_HOW) from reason


_HOW = (
    "Make a pair: openssl ecparam -name prime256v1 -genkey -noout -out private.pem; "
    "openssl ec -in private.pem -pubout -out public.pem"
)


def _need_library() -> None:
    if util.find_spec("model_signing") is None:
        raise MissingDependency.of("model_signing", "sign")
