"""Signed folders: every byte counts, no network is asked, and the OpenSSF's own tool agrees."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import nullcontext
from importlib import util
from pathlib import Path
from unittest import mock

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from optkit.core.artifact import SIGNATURE, Artifact
from optkit.errors import CheckpointError, MissingDependency, OptkitError, OutputError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.models.signing import PASSWORD, open_signed, sign
from optkit.serving.package import package
from optkit.serving.predictor import load
from tests.serving.artifacts import artifact


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    refused = mock.Mock(side_effect=AssertionError("it asked the network"))
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def write_pair(folder: Path, private, password: bytes | None = None) -> tuple[Path, Path]:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    folder.mkdir(exist_ok=True)
    (folder / "private.pem").write_bytes(private.private_bytes(pem, pkcs8, lock))
    (folder / "public.pem").write_bytes(private.public_key().public_bytes(pem, info))
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("keys"), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("other"), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def original(tmp_path_factory, keys):
    """A signed artifact with a report, a page and a hidden file."""
    folder = artifact(tmp_path_factory.mktemp("signed") / "model")
    for name in ("report.json", "README.md", ".notes"):
        (folder / name).write_text("text\n")
    sign(folder, keys[0])
    return folder


@pytest.fixture
def signed(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "model"))


def test_what_was_signed_is_opened(signed, keys):
    assert open_signed(signed, keys[1]).manifest == Artifact.open(signed).manifest
    with load(signed, verify_key=keys[1]) as predictor:
        assert predictor.predict_one("dull").label


def test_a_checkpoint_is_signed_too(checkpoint, tmp_path, keys):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    before = Artifact.open(folder).fingerprint()
    sign(folder, keys[0])
    artifact = open_signed(folder, keys[1])
    assert artifact.format == "hf"
    assert artifact.fingerprint() == before  # the signature is no part of the model


def test_a_change_of_any_byte_is_refused(signed, keys):
    names = sorted(p.name for p in signed.iterdir())
    assert {"optkit.json", "model.onnx", "report.json", ".notes", SIGNATURE} <= set(names)
    for name in names:
        file = signed / name
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 1}:
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(CheckpointError):
                open_signed(signed, keys[1])
        file.write_bytes(content + b"\n")
        if name != SIGNATURE:  # white space behind a JSON value says nothing
            with pytest.raises(CheckpointError):
                open_signed(signed, keys[1])
        file.write_bytes(content)
    open_signed(signed, keys[1])


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "NOTES.md").write_text("more"),
        lambda folder: (folder / ".more").write_text("more"),
        lambda folder: (folder / ".deep").mkdir() or (folder / ".deep" / "x").write_text("more"),
        lambda folder: (folder / "README.md").unlink(),
        lambda folder: (folder / "README.md").rename(folder / "NOTES.md"),
        lambda folder: (folder / ".link").symlink_to("/etc/hostname"),
        lambda folder: (folder / ".loop").symlink_to(".loop"),
        lambda folder: os.mkfifo(folder / ".pipe"),
    ],
)
def test_what_was_added_or_taken_away_is_refused(harm, signed, keys):
    harm(signed)
    with pytest.raises(CheckpointError):
        open_signed(signed, keys[1])


def test_files_of_git_are_nobodys(signed, keys):
    (signed / ".gitattributes").write_text("*.onnx filter=lfs\n")
    (signed / ".git").mkdir()
    (signed / ".git" / "HEAD").write_text("x")
    open_signed(signed, keys[1])


def test_another_key_and_no_signature_are_refused(signed, keys, other_keys):
    with pytest.raises(CheckpointError, match="not that key's"):
        open_signed(signed, other_keys[1])
    (signed / SIGNATURE).unlink()
    with pytest.raises(CheckpointError, match=r"one without model\.sig"):
        open_signed(signed, keys[1])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_text(""),
        lambda file: file.write_text("[" * 100_000),
        lambda file: file.write_text("{}"),
        lambda file: file.write_text('{"verificationMaterial": {"publicKey": 1}, "dsseEnvelope": []}'),
        lambda file: file.write_text('{"verificationMaterial": {"certificate": {"rawBytes": "x"}}}'),
        lambda file: file.write_text(
            '{"mediaType": 1, "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": '
            '{"payload": "e30=", "signatures": []}}'
        ),
        lambda file: file.write_bytes(b"\xff\xfe"),
        lambda file: os.truncate(file, 2**40),
        lambda file: file.unlink() or os.mkfifo(file),
        lambda file: file.unlink() or file.mkdir(),
        lambda file: file.unlink() or file.symlink_to("/dev/zero"),
    ],
)
def test_what_is_no_signature_is_refused(spoil, signed, keys):
    spoil(signed / SIGNATURE)
    with pytest.raises(CheckpointError):
        open_signed(signed, keys[1])


def test_a_signature_that_leaves_a_file_out_is_refused(signed, keys):
    from model_signing import hashing, signing

    (signed / SIGNATURE).unlink()
    leaving_out = hashing.Config().set_ignored_paths(paths=["optkit.json", SIGNATURE])
    config = signing.Config().use_elliptic_key_signer(private_key=keys[0])
    config.set_hashing_config(leaving_out).sign(signed, signed / SIGNATURE)
    with pytest.raises(CheckpointError, match="leaves out 'optkit.json'"):
        open_signed(signed, keys[1])


def test_the_openssf_tool_reads_ours_and_ours_reads_its(signed, keys):
    from model_signing import hashing, signing, verifying

    verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(signed, signed / SIGNATURE)
    (signed / SIGNATURE).unlink()
    config = signing.Config().use_elliptic_key_signer(private_key=keys[0])
    without = hashing.Config().set_ignored_paths(paths=[SIGNATURE])
    config.set_hashing_config(without).sign(signed, signed / SIGNATURE)
    open_signed(signed, keys[1])


def test_a_signed_folder_in_the_hub_cache_is_opened(signed, tmp_path, keys):
    blobs, folder = (tmp_path / "models--me--it" / name for name in ("blobs", "snapshots/abc"))
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for i, file in enumerate(sorted(signed.iterdir())):
        shutil.copy(file, blobs / str(i))
        (folder / file.name).symlink_to(f"../../blobs/{i}")
    open_signed(folder, keys[1])


def test_of_a_signed_model_all_is_downloaded(checkpoint, tmp_path, keys, monkeypatch):
    """What the signature lists must be there, also what is never read: a page, a picture."""
    remote = shutil.copytree(checkpoint, tmp_path / "remote")
    (remote / "README.md").write_text("about it")
    sign(remote, keys[0])

    def snapshot(name, allow_patterns=None):
        target = tmp_path / f"cache-{bool(allow_patterns)}"
        for file in remote.iterdir():
            if not allow_patterns or any(file.match(pattern) for pattern in allow_patterns):
                target.mkdir(exist_ok=True)
                shutil.copy(file, target)
        return str(target)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert (fetch("owner/model", verify_key=keys[1]).path / "README.md").exists()
    assert not (fetch("owner/model").path / "README.md").exists()


def test_signing_again_needs_force(signed, keys, other_keys):
    before = (signed / SIGNATURE).read_bytes()
    with pytest.raises(OutputError, match="has a signature"):
        sign(signed, other_keys[0])
    assert (signed / SIGNATURE).read_bytes() == before
    sign(signed, other_keys[0], force=True)
    open_signed(signed, other_keys[1])


def test_what_is_damaged_is_not_signed(signed, keys):
    (signed / SIGNATURE).unlink()
    names = sorted(signed.iterdir())
    (signed / "model.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        sign(signed, keys[0])
    assert sorted(signed.iterdir()) == names


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_keys_of_other_curves_and_with_a_password(curve, signed, tmp_path, monkeypatch):
    private, public = write_pair(tmp_path / "keys", ec.generate_private_key(curve), b"secret")
    with pytest.raises(RecipeError, match=PASSWORD):
        sign(signed, private, force=True)
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(RecipeError, match=PASSWORD):
        sign(signed, private, force=True)
    monkeypatch.setenv(PASSWORD, "secret")
    sign(signed, private, force=True)
    open_signed(signed, public)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_other_kinds_of_keys_are_refused(make, signed, tmp_path):
    private, public = write_pair(tmp_path / "keys", make())
    with pytest.raises(RecipeError, match="P-256"):
        sign(signed, private, force=True)
    with pytest.raises(RecipeError, match="P-256"):
        open_signed(signed, public)


def test_what_is_no_key_is_refused(signed, keys, tmp_path):
    (tmp_path / "text").write_text("key")
    os.mkfifo(tmp_path / "pipe")
    for key in (tmp_path, tmp_path / "no", tmp_path / "text", tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(RecipeError):
            sign(signed, key, force=True)
        with pytest.raises(RecipeError):
            open_signed(signed, key)
    with pytest.raises(RecipeError):
        sign(signed, keys[1], force=True)
    with pytest.raises(RecipeError):
        open_signed(signed, keys[0])


def test_a_key_in_the_folder_is_refused(checkpoint, keys, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    shutil.copy(keys[0], folder / "key.pem")
    with pytest.raises(RecipeError, match="outside of the model"):
        sign(folder, folder / "key.pem")


def test_a_folder_that_changes_meanwhile_is_not_signed_or_opened(signed, keys, monkeypatch):
    real = Artifact.open

    def opened(path):
        found = real(path)
        (signed / "config.json").write_bytes((signed / "config.json").read_bytes())
        return found

    monkeypatch.setattr(Artifact, "open", opened)
    for call in (lambda: sign(signed, keys[0], force=True), lambda: open_signed(signed, keys[1])):
        with pytest.raises(CheckpointError, match="changed while it was read"):
            call()


@pytest.mark.parametrize("format", ["zip", "wheel", "docker"])
def test_a_package_carries_what_is_signed(format, signed, keys, tmp_path):
    package(signed, format, tmp_path / "out", name="small", verify_key=keys[1])
    if format != "docker":
        (file,) = (tmp_path / "out").iterdir()
        shutil.unpack_archive(file, tmp_path / "unpacked", "zip")
    inside = {"zip": "unpacked/small", "wheel": "unpacked/small/artifact", "docker": "out/model"}[format]
    with load(tmp_path / inside, verify_key=keys[1]) as predictor:
        assert predictor.predict_one("dull").label
    if format == "docker":
        pins = (tmp_path / "out" / "requirements.txt").read_text()
        assert "model-signing==" in pins


def test_a_name_that_an_archive_cannot_bear_is_not_packed(signed, tmp_path):
    (signed / ".x,sha256=0\ny").write_text("x")
    with pytest.raises(CheckpointError, match="plain name"):
        package(signed, "wheel", tmp_path / "out", name="small")
    assert not (tmp_path / "out").exists()


def test_a_package_of_what_is_not_signed_is_refused(signed, keys, other_keys, tmp_path):
    with pytest.raises(CheckpointError, match="not that key's"):
        package(signed, "zip", tmp_path / "out", verify_key=other_keys[1])
    assert not (tmp_path / "out").exists()


def test_bench_and_offline_predict_look_at_the_signature(signed, keys, other_keys, tmp_path):
    from optkit.benchmarking.opened_models import open_model
    from optkit.serving.offline import Job, predict_file

    (tmp_path / "in.txt").write_text("dull\n")
    job = {"path": str(signed), "input": str(tmp_path / "in.txt"), "output": str(tmp_path / "out.jsonl")}
    for key, refused in ((keys[1], False), (other_keys[1], True)):
        with pytest.raises(CheckpointError, match="not that key's") if refused else nullcontext():
            open_model(str(signed), tmp_path, verify_key=key)
        with pytest.raises(CheckpointError, match="not that key's") if refused else nullcontext():
            predict_file(Job(**job, verify_key=str(key)), force=True)
    with pytest.raises(RecipeError, match="folders"):
        open_model(str(signed / "model.onnx"), tmp_path, verify_key=keys[1])


def test_without_the_extra_the_error_names_it(signed, keys, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    for call in (lambda: sign(signed, keys[0]), lambda: open_signed(signed, keys[1])):
        with pytest.raises(MissingDependency) as raised:
            call()
        assert 'pip install "optkit[sign]"' in raised.value.hint
    open_signed(signed, None)  # a signature that nobody asked about hinders nobody


def test_the_command_line(signed, keys, other_keys, monkeypatch, capsys):
    from optkit.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["optkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    assert run("sign", signed, "--key", keys[0])[0] == 6
    assert run("sign", signed, "--key", keys[0], "--force")[0] == 0
    code, said = run("info", signed, "--verify-key", keys[1])
    assert (code, "signature: by the key of" in said.out) == (0, True)
    assert "not checked" in run("info", signed)[1].out
    assert run("predict", signed, "dull", "--verify-key", keys[1])[0] == 0
    for verb in (["info", signed], ["predict", signed, "dull"]):
        code, said = run(*verb, "--verify-key", other_keys[1])
        assert code == CheckpointError.exit_code
        assert [line.partition(":")[0] for line in said.err.splitlines()] == ["error", "hint"]
    assert issubclass(CheckpointError, OptkitError)
