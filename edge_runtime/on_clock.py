"""Answers of a camera tell what the clock showed; those of a recording its seconds."""

from __future__ import annotations

from edge_runtime.answers import Answer
from edge_runtime.sources import is_live
from edge_runtime.state import Header


def on_clock(answer: Answer, header: Header) -> Answer:
    """`answer` of the memory that `header` belongs to, for a person and with its `epoch`."""
    return answer.on_clock(header.epoch) if is_live(header.source) else answer
