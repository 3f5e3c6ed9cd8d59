"""Count the examples of each class, and warn where there are too few to learn from or to judge by."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edge_runtime.system.text import printable
from export.data.files import DataFolder
from export.data.records import Split, Video

ENOUGH_EVENTS: dict[Split, int] = {"train": 20, "val": 10, "test": 10}
"""Events of a class. By 10 that are right or wrong a share is known to +-0.3 (95 %), by 100 to +-0.1."""
ENOUGH_SOURCES = 3
"""Recordings of a class to learn from: of fewer a network knows the background, not what is done."""


def name_source(video: Video) -> str:
    """Return what names the recording that a video is cut from: the video itself where nothing says it."""
    return video.source or video.video


def list_scarce_classes(data: DataFolder, splits: Sequence[Split] = ("train", "val", "test")) -> list[str]:
    """Return a sentence for each class that has too few events in one of the splits.

    Splits without a video are left out.
    """
    sentences = []
    for split in splits:
        videos = [video for video in data.videos.values() if video.split == split]
        for number, activity in enumerate(data.classes if videos else ()):
            having = [
                (video, count)
                for video in videos
                if (count := sum(event.activity == number for event in data.events[video.video]))
            ]
            events = sum(count for _, count in having)
            sources = len({name_source(video) for video, _ in having})
            if sentence := _describe(activity.name, split, events, sources):
                sentences.append(sentence)
    return sentences


def warn_of_scarce_classes(data: DataFolder, splits: Sequence[Split] = ("train", "val", "test")) -> int:
    """Print those sentences to standard error, and return how many."""
    sentences = list_scarce_classes(data, splits)
    for sentence in sentences:
        print(printable(f"warning: {sentence}"), file=sys.stderr)
    return len(sentences)


def _describe(name: str, split: Split, events: int, sources: int) -> str | None:
    """Return what is too little about a class in a split, and why it matters; None where it is enough."""
    few_sources = split == "train" and sources < ENOUGH_SOURCES
    if events >= ENOUGH_EVENTS[split] and not few_sources:
        return None
    counted = f"{_count(events, 'event')} of {_count(sources, 'recording')}" if events else "no event"
    if split == "train":
        expected = f"{ENOUGH_EVENTS[split]} of {ENOUGH_SOURCES} recordings"
        why = "fewer are known by heart, not learned"
    else:
        expected, why = str(ENOUGH_EVENTS[split]), "with fewer a result is hardly more than chance"
    return f"{split} has {counted} of class {name!r}; at least {expected} should be there: {why}"


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
