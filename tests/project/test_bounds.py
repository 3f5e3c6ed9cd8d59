"""Resident memory, threads and descriptors do not grow with what is watched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools.reliability.memory_growth import fit_growth

ROOT = Path(__file__).parents[2]


def test_a_leak_of_one_token_row_a_frame_would_be_seen_in_the_noise(rng):
    frames = np.arange(0, 36_000, 90.0)
    noise = 180e6 + rng.normal(0, 0.5e6, len(frames))
    steps = 180e6 + 0.3e6 * np.floor(4 * np.arange(len(frames)) / len(frames))
    assert not fit_growth(frames, noise).grows and not fit_growth(frames, steps).grows
    leak = fit_growth(frames, noise + 64 * 4 * frames)  # bytes of one token
    assert leak.grows and abs(leak.grown_mb - 9.2) < 0.5 and leak.span == frames[-1]


def test_growth_of_two_samples_is_refused():
    with pytest.raises(ValueError, match="3 samples or more, got 2"):
        fit_growth([0, 1], [5, 6])


def _slope(frames: int, warm: int) -> dict:
    """Measure in a process of its own, so that what other tests left in this one does not count."""
    command = [
        sys.executable,
        "-m",
        "tools.reliability.memory_growth",
        "--frames",
        str(frames),
        "--warm",
        str(warm),
    ]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:] + done.stdout.decode()[-500:]
    return json.loads(done.stdout.splitlines()[-1])


def test_real_ingest_of_demo_video_does_not_grow():
    """Retained pictures of 160 x 120 would be 35 MB here, retained features of each frame 7.5 MB."""
    result = _slope(1100, 500)
    assert result["frames"] >= 1000 and result["grown_mb"] < 2.5
    assert len(result["threads"]) <= 2 and max(result["descriptors"]) - min(result["descriptors"]) <= 3


@pytest.mark.slow
def test_ten_hours_of_demo_video_do_not_grow():
    result = _slope(36_000, 2000)
    assert result["frames"] > 35_000 and result["grown_mb"] < 1.8
