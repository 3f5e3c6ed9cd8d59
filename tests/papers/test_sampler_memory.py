"""Scoring a memory of the published size keeps no N x N matrix: 11,760 tokens squared are 553 MB a head."""

from __future__ import annotations

from tools.papers.sampler_memory import LIMITS_MB, PAPER_TOKENS, measure


def test_eleven_thousand_tokens_are_scored_within_the_limit() -> None:
    for row in measure(256, PAPER_TOKENS, 2, ("onnxruntime", "openvino")):
        assert row["peak_mb"] < LIMITS_MB[256], row
