"""No picture reaches the disk, and nothing is written where it should not be: a whole run is searched."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.config.privacy import PrivacySettings, ThumbnailSettings
from edge_runtime.frame import Frame
from edge_runtime.persistence import StateFolder
from edge_runtime.persistence.encryption import Key
from edge_runtime.privacy.saved_settings import load_zones
from edge_runtime.sources import read_frame_at
from engines.fake import FakeEngine
from tests.support import canary
from tests.support.cameras import make_camera_run

ROOT = Path(__file__).parents[2]
SECONDS, SHOWN = 40, range(5, 38)
ZONED = {"pad": canary.ZONE}

# Tells every file that Python opens for writing, by an audit hook that is there before the program is.
WATCH = """
import os, sys
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def hook(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)):
        path, mode, flags = given
        if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(str(mode)) & set("wax+"):
            os.write(log, os.fsencode(os.path.abspath(os.fsdecode(path))) + b"\\n")
sys.addaudithook(hook)
sys.argv[0] = "lvm-edge"
from edge_runtime.interfaces.cli.main import main
main()
"""
STATE = (
    r"((memory\.state|privacy\.json)(\.new)?|memory\.journal\.[0-9a-f]{16}"
    r"|activities\.sqlite(-wal|-shm|-journal)?)"
)
HARMLESS = re.compile(r"/dev/(null|tty|pts/\d+)$|/proc/")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return canary.write_video(tmp_path_factory.mktemp("video") / "shop.mkv", SECONDS, SHOWN)


def _may_trace(folder: Path) -> bool:
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-f", "-o", folder / "tried", "true"], capture_output=True)
    return tried.returncode == 0


def _run(folder: Path, video: Path) -> tuple[Path, set[str]]:
    """A whole run whose every folder lies in `folder`; the files that were opened for writing."""
    home, temporary, log = folder / "home", folder / "tmp", folder.parent / f"{folder.name}.opened"
    for path in (home, temporary, folder / "work"):
        path.mkdir(parents=True)
    (folder / "work" / "c.yaml").write_text(
        f"cameras:\n  lane:\n    source: {video}\n"
        "http: {enabled: false}\nmodel: {threads: 1, backend: onnxruntime}\n"
        f"logs: {{file: {folder}/edge.log, level: debug}}\nstate: {{save_interval_s: 0}}\n"
    )
    (folder.parent / "watch.py").write_text(WATCH)
    command: list[object] = [
        sys.executable,
        folder.parent / "watch.py",
        log,
        "-v",
        "run",
        "--config",
        "c.yaml",
    ]
    trace = folder.parent / f"{folder.name}.trace"
    if traced := _may_trace(folder.parent):
        calls = "trace=open,openat,creat,memfd_create"
        command = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", calls, "-s", "4096", "-o", trace, *command]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "TMPDIR": str(temporary),
        "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    for name in ("LVM_EDGE_STATE", "LVM_EDGE_KEY", "LVM_EDGE_KEY_FILE"):
        environment.pop(name, None)
    done = subprocess.run(
        command, cwd=folder / "work", env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0 and f"{SECONDS} frames" in done.stdout, done.stdout + done.stderr
    opened = set(log.read_text().splitlines())
    assert opened, "the audit hook has seen nothing"
    if traced:
        for line in trace.read_text(errors="replace").splitlines():
            match = re.search(r'(?:open|openat|creat)\(.*?"(.*?)"(.*)\) = \d+', line)
            if match and re.search(r"O_WRONLY|O_RDWR|O_CREAT|creat", line):
                opened.add(os.path.join(folder / "work", match[1]))
    opened.discard(str(log))
    return folder, opened


def _holding(folder: Path) -> list[str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path.relative_to(folder)) for path in files if canary.in_bytes(path.read_bytes())]


# -- the search itself -------------------------------------------------------------------------------------


def test_the_search_finds_the_canary_however_it_was_kept():
    whole = canary.picture(3, shown=True)
    small = cv2.resize(whole, (160, 120), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(whole, cv2.COLOR_RGB2BGR)
    encoded = [
        whole.tobytes(), bgr.tobytes(), whole.transpose(2, 0, 1).tobytes(), small.tobytes(),
        cv2.resize(whole, (224, 224), interpolation=cv2.INTER_AREA).tobytes(),
        cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY).tobytes(), whole.astype(np.float32).tobytes(),
        b"junk" + cv2.imencode(".png", bgr)[1].tobytes(),
        b"junk" + cv2.imencode(".jpg", cv2.resize(bgr, (120, 90)))[1].tobytes(),
    ]  # fmt: skip
    assert [canary.in_bytes(b"x" * 7 + data) for data in encoded] == [True] * len(encoded)
    without = canary.picture(3, shown=False)
    others = [without.tobytes(), cv2.imencode(".jpg", without)[1].tobytes(), os.urandom(300_000)]
    assert [canary.in_bytes(data) for data in others] == [False] * len(others)


# -- whole runs --------------------------------------------------------------------------------------------


def test_a_whole_run_leaves_no_picture_and_writes_nowhere_else(video, tmp_path):
    folder, opened = _run(tmp_path / "all", video)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "memory.state" for path in written) and (folder / "edge.log").exists()
    assert _holding(folder) == []
    # Nothing else was ever opened for writing, there or anywhere, not even to be removed again.
    known = re.compile(rf"{re.escape(str(folder))}/(edge\.log|home/state/lvm-edge/[^/]+/(lock|{STATE}))$")
    assert [path for path in opened if not known.match(path) and not HARMLESS.match(path)] == []


def test_thumbnails_that_are_switched_on_show_it_but_not_a_zone_and_not_when_sealed(video, engines, tmp_path):
    on = PrivacySettings(thumbnails=ThumbnailSettings(enabled=True))
    hidden = on.model_copy(update={"zones": ZONED})
    key = Key(bytes(range(32)))
    for name, privacy, sealed in (("plain", on, None), ("zoned", hidden, None), ("sealed", on, key)):
        with StateFolder(tmp_path / name, sealed) as held:
            make_camera_run(engines, str(video), held, privacy=privacy).run()
        pictures = list((tmp_path / name / "thumbnails").iterdir())
        assert pictures, name
        assert bool(_holding(tmp_path / name)) == (name == "plain")


# -- zones -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zones", [{}, ZONED], ids=["open", "zoned"])
def test_what_lies_in_a_zone_is_in_no_input_no_ring_and_no_picture(video, engines, tmp_path, zones):
    given: list[np.ndarray] = []

    def listening(feeds):
        given.extend(feeds["image"])
        return engines.backbone(feeds)

    backbone = FakeEngine(listening, engines.backbone.inputs, engines.backbone.outputs)
    with StateFolder(tmp_path) as held:
        service = make_camera_run(
            replace(engines, backbone=backbone), str(video), held, privacy=PrivacySettings(zones=zones)
        )
        service.run()
    seen = [canary.in_image(image) or canary.in_pixels(image.tobytes()) for image in given]
    assert len(seen) == SECONDS and sum(seen) == (0 if zones else len(SHOWN))
    ring: list[Frame] = list(service.pictures.ring._frames)
    fetched = [service.pictures.read_at(t) for t in (6.0, 20.0, 36.0)]  # the first two from the file again
    stopped = [
        load_zones(tmp_path).mask_frame(read_frame_at(str(video), t)) for t in (6.0, 20.0)
    ]  # `ask` without a run
    for frame in [*(frame for frame in ring if frame.t in SHOWN), *fetched, *stopped]:
        assert canary.in_image(frame.image) == (not zones), frame.t
        assert canary.in_pixels(frame.image.tobytes()) == (not zones)
    if zones:
        rows, columns = (
            slice(canary.TOP, canary.TOP + canary.SIDE),
            slice(canary.LEFT, canary.LEFT + canary.SIDE),
        )
        assert all(frame.image[rows, columns].max() == 0 for frame in [*ring, *fetched, *stopped])
