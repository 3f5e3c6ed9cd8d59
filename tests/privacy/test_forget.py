"""What is forgotten is in no file and no answer; the state stays valid, and says what remains."""

import contextlib
import io
import json
import logging
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from edge_runtime.config.privacy import PrivacySettings, ThumbnailSettings
from edge_runtime.interfaces.cli import main as cli
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.memory.forgetting import forget_span, to_tick_range
from edge_runtime.persistence import FILE, PREVIOUS, Snapshot, StateError, StateFolder, load_snapshot
from edge_runtime.persistence.encryption import Key, find_key, new_key_text
from edge_runtime.query.schema import parse_query
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.runtime import Service
from engines.errors import LvmError
from tests.support.cameras import make_camera_run

DEMO = "demo?size=64x48"
WITH_PICTURES = PrivacySettings(thumbnails=ThumbnailSettings(enabled=True))
KEY = Key(bytes(range(32)))


def _watched(engines, folder: Path, seconds: float = 100, key=None, privacy=WITH_PICTURES) -> None:
    with StateFolder(folder, key) as held:
        make_camera_run(engines, DEMO, held, privacy=privacy).run(seconds)


@dataclass
class Done:
    stdout: str
    stderr: str


def _lvm(*arguments, status: int = 0) -> Done:
    """The command line in this process: a process for each call would take most of the time."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.app([str(argument) for argument in arguments], standalone_mode=False)
        except LvmError as error:
            code = error.exit_status
            err.write(str(error))
        finally:
            root = logging.getLogger()
            for handler in [handler for handler in root.handlers if getattr(handler, "of_lvm_edge", False)]:
                root.removeHandler(handler)
    assert code == status, out.getvalue() + err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def _rows_between(snapshot: Snapshot, start: float, end: float) -> list[bytes]:
    """The bytes, as a snapshot holds them, of each token that a picture of [start, end) gave."""
    version, (first, last) = snapshot.version, to_tick_range(start, end)
    memory = version.memory
    inside = memory.valid & (memory.tick >= first) & (memory.tick <= last)
    rows = [row.astype(np.float16).tobytes() for row in memory.features[inside]]
    for frame, tick in zip(version.pending, version.pending_ticks, strict=True):
        if first <= tick <= last:
            rows += [row.astype(np.float16).tobytes() for row in frame]
    return rows


def _every_byte(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture(scope="module")
def pristine(engines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine") / "state"
    _watched(engines, folder)
    return folder


@pytest.fixture
def state(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "state"))


@pytest.mark.parametrize("span", [(20, 50), (85, 200), (-1e308, 1e308)], ids=str)
def test_nothing_of_the_interval_is_left_in_any_file(state, span):
    before = load_snapshot(state)
    rows = _rows_between(before, *span)
    retained = set(_rows_between(before, -1, span[0] - 1) + _rows_between(before, span[1] + 1, 1e6))
    assert rows and any(row in _every_byte(state) for row in rows)
    result = json.loads(_lvm("forget", "--state", state, "--from", span[0], "--to", span[1], "--json").stdout)
    data = _every_byte(state)
    assert not [row for row in rows if row.strip(b"\0") and row in data and row not in retained]
    assert result["tokens"] + 49 * result["pending_frames"] == len(rows) and result["thumbnails"] > 0
    names = {path.name for path in state.iterdir() if not path.name.startswith("memory.journal.")}
    assert names <= {FILE, "lock", "thumbnails", "privacy.json"}
    assert load_snapshot(state).version.last_tick == before.version.last_tick
    first, last = to_tick_range(*span)
    left = [int(path.name.split(".")[0]) for path in (state / "thumbnails").iterdir()]
    assert not [tick for tick in left if first <= tick <= last]


def test_nothing_is_left_either_where_a_kill_came_between_two_renames(state):
    (state / PREVIOUS).unlink()
    (state / PREVIOUS).hardlink_to(state / FILE)  # the snapshot has its second name, the new one not yet its
    before = load_snapshot(state)
    rows = _rows_between(before, 20, 50)
    retained = set(_rows_between(before, -1, 19) + _rows_between(before, 51, 1e6))
    _lvm("forget", "--state", state, "--from", 20, "--to", 50)
    data = _every_byte(state)
    assert rows and not [row for row in rows if row.strip(b"\0") and row in data and row not in retained]


def test_a_question_about_it_is_told_so_and_one_beside_it_is_not(state):
    _lvm("forget", "--state", state, "--from", "20", "--to", "50")
    ask = ["ask", "object", "--activity", "scan", "--state", state, "--backend", "onnxruntime", "--json"]
    inside = json.loads(_lvm(*ask, "--from", "25", "--to", "45").stdout)
    assert inside["abstained"] and inside["reason"] == "that time was forgotten on request"
    around = json.loads(_lvm(*ask, "--from", "10", "--to", "60").stdout)
    assert around["coverage"]["gaps"] == [{"from": 20, "to": 50, "reason": "forgotten"}]
    assert not [token for token in around["evidence"] if 20 <= token["t"] < 50]
    status = json.loads(_lvm("status", "--state", state, "--json").stdout)
    assert status["coverage"]["gaps"] == [{"from": 20.0, "to": 50.0, "reason": "forgotten"}]


@pytest.mark.parametrize("span, reset", [((20, 50), False), ((92, 97), False), ((0, 99), True)], ids=str)
def test_what_is_left_resumes(engines, state, span, reset):
    options = ["--reset-background"] if reset else []
    output = _lvm("forget", "--state", state, "--from", span[0], "--to", span[1], *options).stdout
    assert ("emptied too and learns anew" in output) == reset
    with StateFolder(state) as held:
        service = make_camera_run(engines, DEMO, held)
        assert (service.version.background.cell_means is None) == reset
        service.run(60)
    version = load_snapshot(state, engines.bundle.manifest.network).version
    assert version.frames == 160 and version.coverage.end == 160
    assert version.background.cell_means is not None
    ticks = version.memory.tick[version.memory.valid]
    assert (ticks > 500).any() and (np.diff(ticks) >= 0).all()
    forgotten = [gap[:2] for gap in version.coverage.gaps_with_reasons() if gap.reason == "forgotten"]
    assert forgotten == [span]


def test_a_running_process_forgets_by_its_door_and_goes_on(engines, tmp_path):
    with Service(engines) as whole:
        service = whole.add(CameraSettings(DEMO + "&speed=60", tmp_path))
        thread = threading.Thread(target=whole.run, daemon=True)
        thread.start()
        end = time.monotonic() + 20
        while service.version.frames < 45 and time.monotonic() < end:
            time.sleep(0.02)
        client = TestClient(make_app(whole))
        reply = client.post("/api/v1/forget", json={"from": 10, "to": 40})
        assert reply.status_code == 200, reply.text
        assert reply.json()["tokens"] + reply.json()["pending_frames"] > 0
        rows = service.version.memory.tick[service.version.memory.valid]
        assert not [t for t in rows if 50 <= t <= 200]
        seen = service.version.frames
        while service.version.frames < seen + 20 and time.monotonic() < end:
            time.sleep(0.02)
        assert service.version.frames >= seen + 20  # it went on watching
        whole.stop()
        thread.join(5)
        for body in ({"from": 5, "to": 5}, {"from": "11:30", "to": 9}, {"from": 1}, {"from": "x", "to": 2}):
            refused = client.post("/api/v1/forget", json=body)
            assert refused.status_code == 422 and len(refused.json()["error"]) < 300
    saved = load_snapshot(tmp_path).version.coverage
    assert (10, 40, "forgotten") in [gap[:3] for gap in saved.gaps_with_reasons()]
    newest = parse_query('{"type": "object", "activity": "scan", "from": 12, "to": 30}')
    assert service.ask(newest).reason == "that time was forgotten on request"


def test_a_folder_in_use_names_the_door(engines, state):
    with StateFolder(state):
        output = _lvm("forget", "--state", state, "--from", "1", "--to", "9", status=2).stderr
    assert "in use by a running lvm-edge; ask it over HTTP with --url" in output
    assert load_snapshot(state).version.coverage.gaps == ()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--from", "9", "--to", "9"], "--from must be before --to"),
        (["--from", "nan", "--to", "9"], "must be a time"),
        (["--from", "11:30", "--to", "12:30"], "a recording without a clock; give seconds"),
        (
            ["--from", "1", "--to", "9", "--camera", "lane2"],
            "is the memory of one camera: leave --camera out",
        ),
    ],
    ids=range(4),
)
def test_wrong_use_is_one_sentence_and_changes_nothing(state, options, words):
    before = _every_byte(state)
    assert words in _lvm("forget", "--state", state, *options, status=2).stderr
    assert _every_byte(state) == before


def test_how_much_of_the_background_was_of_the_interval_is_told(state):
    version = load_snapshot(state).version  # 100 s: three clips and ten frames of the fourth
    shares = {}
    for span in ((0, 30), (30, 60), (60, 90), (0, 90), (95, 100)):
        _, result = forget_span(version, *span, clip_s=30, clip_frames=30)
        shares[span] = (result.svd_share, result.cell_share)
    assert shares[0, 90] == pytest.approx((1, 1), abs=0.05) and shares[95, 100] == (0, 0)
    # The cell means are 0.81 of the first clip, 0.09 of the second and 0.1 of the third.
    cell_shares = [shares[span][1] for span in ((0, 30), (30, 60), (60, 90))]
    assert cell_shares == pytest.approx([0.81, 0.09, 0.10], abs=0.02)
    svd = [shares[span][0] for span in ((0, 30), (30, 60), (60, 90))]
    assert sum(svd) == pytest.approx(1, abs=0.05) and svd[0] <= svd[1] <= svd[2]


def test_the_picture_of_the_edge_is_forgotten_too():
    # A picture at 9.95 s has the tick of 10.0 s; one at 20.05 s that of 20.0 s may stay or go, never 19.99.
    assert (
        to_tick_range(10, 20) == (50, 100)
        and to_tick_range(9.95, 20) == (50, 100)
        and to_tick_range(9.85, 9.9)[0] == 49
    )


# -- encrypted ---------------------------------------------------------------------------------------------


def test_a_sealed_state_shows_nothing_resumes_and_forgets(engines, tmp_path, monkeypatch):
    folder, file = tmp_path / "state", tmp_path / "key"
    _watched(engines, folder, 40)
    # Rows of zeros are tokens that were given up, and the padding of a journal too.
    plain = [row for row in _rows_between(load_snapshot(folder), 0, 100) if any(row)]
    assert plain
    text = new_key_text()
    file.write_text(text)
    file.chmod(0o600)
    key = find_key(file)
    _watched(engines, folder, 30, key)  # plain until now, sealed from the first save on
    data = _every_byte(folder)
    assert not [row for row in plain if row in data] and b"coverage" not in data
    assert not list((folder / "thumbnails").glob("*.jpg")) or b"\xff\xd8\xff" in data
    saved = load_snapshot(folder, key=key)
    assert saved.version.frames == 70
    for wrong, words in ((None, "name its file with --key"), (KEY, f"the key given is {KEY.id.hex()}")):
        with pytest.raises(StateError, match=words):
            load_snapshot(folder, key=wrong)
        with StateFolder(folder, wrong) as held, pytest.raises(StateError, match="sealed with key"):
            make_camera_run(engines, DEMO, held)
    assert _every_byte(folder) == data
    assert "sealed with key" in _lvm("status", "--state", folder, status=2).stderr
    monkeypatch.setenv("LVM_EDGE_KEY_FILE", str(file))
    assert json.loads(_lvm("status", "--state", folder, "--json").stdout)["frames"] == 70
    monkeypatch.delenv("LVM_EDGE_KEY_FILE")
    _lvm("forget", "--state", folder, "--from", 0, "--to", 100, status=2)
    _lvm("forget", "--state", folder, "--from", 0, "--to", 100, "--key", file)
    assert load_snapshot(folder, key=key).version.memory.filled == 0


def test_a_damaged_sealed_snapshot_gives_way_to_the_one_before(engines, tmp_path):
    with StateFolder(tmp_path, KEY) as held:
        service = make_camera_run(engines, DEMO, held)
        service.run(5)
        header = service.snapshot().header
        held.save(Snapshot(header.model_copy(update={"last_t": 77.0}), service.version))
    current = tmp_path / FILE
    data = bytearray(current.read_bytes())
    data[len(data) // 2] ^= 1
    current.write_bytes(data)
    assert load_snapshot(tmp_path, key=KEY).header.last_t == 4.0


def test_a_thumbnail_cannot_be_passed_off_as_a_snapshot(engines, tmp_path):
    _watched(engines, tmp_path, 35, KEY)
    picture = next((tmp_path / "thumbnails").iterdir())
    for name in (FILE, PREVIOUS):
        (tmp_path / name).write_bytes(picture.read_bytes())
    with pytest.raises(StateError, match="damaged or no state"):
        load_snapshot(tmp_path, key=KEY)


def test_forgetting_a_version_that_knows_nothing_changes_nothing():
    from edge_runtime.memory.version import empty_version
    from tests.support.fakes import small_network

    version = empty_version(small_network())
    after, result = forget_span(version, 0, 10, clip_s=4, clip_frames=4)
    assert after == replace(version) and result.tokens == 0 and "less than 0.1 %" in result.remains()
    with pytest.raises(LvmError):
        forget_span(version, 10, 10, clip_s=4, clip_frames=4)
