"""The cache of plans: nothing foreign, stale, torn or half written ever comes out of it."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines.plans import Plan, PlanCache, PlanKey, folder_beside, folder_in_cache

ROOT = Path(__file__).parents[2]
KEY = PlanKey("reader", "ab" * 32, "10.3.0", "Orin", "8.7", "fp16", "1 4 16", 1)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "bundle"


def never(timings: bytes) -> tuple[bytes, bytes]:
    raise AssertionError("was built although it is there")


def built(timings: bytes) -> tuple[bytes, bytes]:
    return b"plan\n" * 1000, timings + b"t"


def test_a_plan_is_built_once_and_lies_beside_the_bundle(bundle: Path) -> None:
    cache = PlanCache(bundle)
    assert cache.load(KEY) is None
    path = bundle.with_name("bundle.plans") / "reader-orin-8.7.plan"
    assert cache.get(KEY, built) == Plan(b"plan\n" * 1000, path, built=True)
    assert cache.get(KEY, never) == Plan(b"plan\n" * 1000, path, built=False)
    assert cache.get(KEY, built, fresh=True).built


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(PlanKey)])
def test_a_plan_of_anything_else_is_none(bundle: Path, field: str) -> None:
    cache = PlanCache(bundle)
    path = cache.get(KEY, built).path
    assert path is not None
    other = dataclasses.replace(KEY, **{field: 2 if field == "builder" else "other"})
    assert cache.load(other) is None
    # Not even under the name that it would have.
    (path.with_name(other.file_name)).write_bytes(path.read_bytes())
    assert cache.load(other) is None
    assert cache.get(other, built).built and not cache.get(other, never).built


def test_a_stale_plan_is_overwritten_not_collected(bundle: Path) -> None:
    cache = PlanCache(bundle)
    for version in ("10.3.0", "10.4.0", "11.0.0"):
        cache.get(dataclasses.replace(KEY, tensorrt=version), built)
    assert sorted(path.name for path in folder_beside(bundle).iterdir()) == [
        "lock", "reader-orin-8.7.plan", "timings-orin-8.7.plan",
    ]  # fmt: skip


def test_timings_come_back_but_not_to_another_tensorrt(bundle: Path) -> None:
    given = []

    def build(timings: bytes) -> tuple[bytes, bytes]:
        given.append(timings)
        return b"plan", timings + b"t"

    cache = PlanCache(bundle)
    for graph in ("backbone", "reader"):
        cache.get(dataclasses.replace(KEY, graph=graph), build)
    cache.get(dataclasses.replace(KEY, tensorrt="11.0.0"), build)
    assert given == [b"", b"t", b""]


def test_what_is_torn_or_changed_is_built_again(bundle: Path) -> None:
    cache = PlanCache(bundle)
    path = cache.get(KEY, built).path
    assert path is not None
    whole = path.read_bytes()
    torn = [whole[:size] for size in (0, 1, 200, len(whole) // 2, len(whole) - 1)]
    flipped = bytearray(whole)
    flipped[-7] ^= 1
    for damaged in (*torn, bytes(flipped), whole + b"x", b"\xff" * 100_000, b"{}\n" + whole):
        path.write_bytes(damaged)
        assert cache.load(KEY) is None
    assert cache.get(KEY, built).built and path.read_bytes() == whole


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_plan_that_others_may_write_is_not_loaded(bundle: Path, mode: int) -> None:
    cache = PlanCache(bundle)
    path = cache.get(KEY, built).path
    assert path is not None and cache.load(KEY) is not None
    path.chmod(mode)
    assert cache.load(KEY) is None


def test_a_plan_is_readable_for_the_services_user_whatever_the_umask(bundle: Path) -> None:
    before = os.umask(0o077)
    try:
        path = PlanCache(bundle).get(KEY, built).path
    finally:
        os.umask(before)
    assert path is not None and path.stat().st_mode & 0o777 == 0o644


def test_where_the_bundle_cannot_be_written_the_users_cache_is_taken(bundle: Path, tmp_path: Path) -> None:
    folder_beside(bundle).write_text("a file where the folder should be")
    cache = PlanCache(bundle)
    path = cache.get(KEY, built).path
    assert path is not None and path.parent == folder_in_cache(bundle) and tmp_path / "cache" in path.parents
    assert not cache.get(KEY, never).built
    # A plan from the factory, beside the bundle, is read before the user's own.
    folder_beside(bundle).unlink()
    made = PlanCache(bundle).get(KEY, lambda timings: (b"factory", b""), fresh=True)
    assert made.path is not None and made.path.parent == folder_beside(bundle)
    plan = cache.load(KEY)
    assert plan is not None and plan.data == b"factory"


def test_where_nothing_can_be_written_the_plan_is_used_all_the_same(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_beside(bundle).write_text("")
    (tmp_path / "cache").write_text("")
    assert PlanCache(bundle).get(KEY, built) == Plan(b"plan\n" * 1000, None, built=True)
    assert "each start builds them" in caplog.text


def test_a_full_disk_leaves_nothing_and_keeps_the_plan_of_before(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PlanCache(bundle)
    cache.get(KEY, built)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        plan = cache.get(KEY, lambda timings: (b"new", b"t"), fresh=True)
    assert plan == Plan(b"new", None, built=True) and "No space left on device" in caplog.text
    assert not list(folder_beside(bundle).glob("*.new"))
    assert cache.get(KEY, never).data == b"plan\n" * 1000


def test_a_build_that_fails_writes_nothing_and_lets_the_lock_go(bundle: Path) -> None:
    def fails(timings: bytes) -> tuple[bytes, bytes]:
        raise MemoryError("no")

    cache = PlanCache(bundle)
    with pytest.raises(MemoryError):
        cache.get(KEY, fails)
    assert [path.name for path in folder_beside(bundle).iterdir()] == ["lock"]
    assert cache.get(KEY, built).built


OTHER = """
import sys, time
from pathlib import Path
from engines.plans import PlanCache, PlanKey

key = PlanKey("reader", "ab" * 32, "10.3.0", "Orin", "8.7", "fp16", "1 4 16", 1)
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def build(timings):
    with (folder / "builds").open("a") as file:
        file.write("built\\n")
    time.sleep(seconds)
    return b"plan of another process", b"t"

print(PlanCache(folder / "bundle").get(key, build).built, flush=True)
"""


def other(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OTHER, str(folder), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for_build(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "builds").exists():
        assert time.monotonic() < deadline, "the other process never built"
        time.sleep(0.02)


def test_of_two_processes_one_builds_and_the_other_waits_and_loads(bundle: Path, tmp_path: Path) -> None:
    first = other(tmp_path, 3)
    wait_for_build(tmp_path)
    second = other(tmp_path, 3)
    said = [process.communicate(timeout=60)[0].strip() for process in (first, second)]
    assert said == ["True", "False"]
    assert (tmp_path / "builds").read_text() == "built\n"


def test_a_killed_build_leaves_neither_a_plan_nor_a_lock(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = other(tmp_path, 600)
    wait_for_build(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert process.stdout is not None
    process.stdout.close()
    # As if it had been killed while it wrote, too.
    (folder_beside(bundle) / (KEY.file_name + ".new")).write_bytes(b'{"half')
    cache = PlanCache(bundle)
    assert cache.load(KEY) is None
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY, built).built
    assert "waiting" not in caplog.text
    assert not list(folder_beside(bundle).glob("*.new"))
    assert not cache.get(KEY, never).built
