"""The tool that takes the published size through everything, at the smallest size."""

from __future__ import annotations

import json
import sys

from tools import paper_step


def test_a_step_two_stages_and_a_checkpoint(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper_step", "--preset", "tiny", "--threads", "1"])
    paper_step.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    timed = ("training_step_s", "backbone_clip_s", "sampler_clip_s", "query_s", "checkpoint_s")
    assert all(said[name] >= 0 for name in timed) and said["checkpoint_bytes"] > 4 * said["parameters"] > 0
