"""Sealed files: read with their key, in their role, unchanged; else one sentence and nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.persistence import encryption as sealing
from edge_runtime.persistence.encryption import Key, SealError, find_key, is_sealed, new_key_text, open_sealed
from edge_runtime.persistence.filesystem import make_private_folder, write_private
from engines.errors import LvmError, Unavailable

ROOT = Path(__file__).parents[2]
SECRET = bytes(range(32))


def _lvm(*arguments, status: int = 0, **environment) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime.interfaces.cli.main", *map(str, arguments)],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(autouse=True)
def no_key_of_ours(monkeypatch):
    for name in (sealing.ENVIRONMENT, sealing.ENVIRONMENT_FILE, "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20))
def test_what_is_sealed_is_opened_and_shows_nothing_of_itself(data, role, owner):
    key = Key(SECRET)
    sealed = key.seal(data, role=role, owner=owner)
    assert is_sealed(sealed) and key.open(sealed, role=role) == data == key.open(
        sealed, role=role, owner=owner
    )
    assert len(data) < 8 or data not in sealed[-len(data) - 28 :]  # nonce, ciphertext, tag
    assert key.seal(data, role=role, owner=owner) != sealed  # a fresh nonce for each write


@settings(max_examples=200)
@given(st.data())
def test_a_changed_or_shortened_file_is_refused(data):
    sealed = Key(SECRET).seal(b"what is remembered", role="snapshot", owner="17")
    at = data.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    for broken in (bytes(flipped), sealed[:at]):
        with pytest.raises(SealError):
            Key(SECRET).open(broken, role="snapshot")


def test_files_cannot_be_swapped():
    key = Key(SECRET)
    journal = key.seal(b"x", role="journal", owner="17")
    for wrong in ({"role": "snapshot"}, {"role": "journal", "owner": "18"}, {"role": "journal", "owner": ""}):
        with pytest.raises(SealError, match="not"):
            key.open(journal, **wrong)


def test_another_key_is_named_and_neither_is_told():
    sealed = Key(SECRET).seal(b"x", role="snapshot")
    other = Key(bytes(32))
    with pytest.raises(SealError) as caught:
        other.open(sealed, role="snapshot")
    said = str(caught.value)
    assert Key(SECRET).id.hex() in said and other.id.hex() in said
    assert SECRET.hex() not in said and SECRET.hex() not in repr(Key(SECRET))


def test_a_sealed_file_without_a_key_says_which_it_needs():
    sealed = Key(SECRET).seal(b"x", role="snapshot")
    with pytest.raises(SealError, match=f"sealed with key {Key(SECRET).id.hex()}; name its file with --key"):
        open_sealed(sealed, None, role="snapshot")
    assert (
        open_sealed(b"plain", None, role="snapshot")
        == b"plain"
        == open_sealed(b"plain", Key(SECRET), role="snapshot")
    )


def test_a_key_file_is_made_private_and_never_overwritten(tmp_path):
    file = tmp_path / "key"
    _lvm("key", "new", file)
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"{file} exists already" in _lvm("key", "new", file, status=2).stderr
    assert file.read_text() == text
    assert _lvm("key", "id", file).stdout.strip() == find_key(file).id.hex()
    assert text.strip().removeprefix(sealing.PREFIX) not in _lvm("key", "id", file).stdout


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    file = tmp_path / "key"
    file.write_text(new_key_text())
    file.chmod(mode)
    with pytest.raises(LvmError, match=f"can be read by others .mode {mode:04o}.; run: chmod 600"):
        find_key(file)


def test_a_credential_of_systemd_may_have_a_group(tmp_path, monkeypatch):
    file = tmp_path / "key"
    file.write_text(new_key_text())
    file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find_key(file).id


@pytest.mark.parametrize(
    "text",
    ["", "hello", "a" * 44, sealing.PREFIX, sealing.PREFIX + "AAAA", "\u00e9", "x" * 10_000],
    ids=range(7),
)
def test_what_holds_no_key_is_one_sentence_that_repeats_nothing(tmp_path, text):
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(LvmError) as caught:
        find_key(file)
    assert str(caught.value).startswith(f"{file}") or str(caught.value).startswith(f"key {file}")
    assert len(str(caught.value)) < 300 and (len(text) < 5 or text not in str(caught.value))


def test_a_key_that_is_not_there_or_a_folder_is_one_sentence(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(LvmError, match="key .* (cannot be read|is no file|holds no key)"):
            find_key(path)


def test_the_environment_gives_a_key_or_names_its_file(tmp_path, monkeypatch):
    assert find_key() is None
    text = new_key_text()
    monkeypatch.setenv(sealing.ENVIRONMENT, text)
    by_value = find_key()
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    monkeypatch.delenv(sealing.ENVIRONMENT)
    monkeypatch.setenv(sealing.ENVIRONMENT_FILE, str(file))
    assert by_value.id == find_key().id


def test_without_the_package_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(Unavailable, match=r'pip install "lvm-edge\[encryption\]"'):
        Key(SECRET)


def test_a_private_file_is_private_whatever_the_umask_and_was_there_before(tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        make_private_folder(folder)
        write_private(folder / "a", b"one")
    finally:
        os.umask(before)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (folder / "a.new").symlink_to(elsewhere)
    write_private(folder / "a", b"two")
    assert (folder / "a").read_bytes() == b"two" and elsewhere.read_text() == "mine"
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "a").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == ["a"]
