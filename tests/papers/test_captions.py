"""Captions of a captioner's output file as text memory."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from engines.errors import LvmError
from export.papers.detection.captions import CAPTIONS, align_captions, read_captions, vary_caption
from export.papers.detection.head import HeadRecipe
from export.papers.detection.named import make_head
from export.papers.detection.tinymem import encode_captions
from export.papers.detection.train import predict, train_head
from tests.support.detection_videos import ACTIVITIES, WIDTH, toy_video


def _written(folder, *lines):
    (folder / CAPTIONS).write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_captions_are_read_by_video_and_in_order_of_time(tmp_path):
    rows = [("b", 3.0, "x"), ("a", 9.0, "later"), ("a", 1.5, "first")]
    folder = _written(tmp_path, *(json.dumps({"video": v, "t": t, "text": x}) for v, t, x in rows))
    assert read_captions(folder) == {"b": [(3.0, "x")], "a": [(1.5, "first"), (9.0, "later")]}
    assert read_captions(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "line", ['{"video": "a", "t": -1, "text": "x"}', '{"video": "a", "t": 1}', "no json"]
)
def test_a_line_that_is_no_caption_is_told_with_its_place(tmp_path, line):
    with pytest.raises(LvmError, match=r"captions.jsonl:2: "):
        read_captions(_written(tmp_path, '{"video": "a", "t": 1, "text": "x"}', line))


def test_a_frame_has_the_newest_caption_that_is_not_later_and_not_old():
    text = [(0.4, "a"), (2.0, "b"), (9.0, "c")]
    ticks = np.array([[0, 5], [10, 15], [20, 25], [40, 45]])  # 2 s a clip, frames a second apart
    assert align_captions(text, ticks) == (("", "a"), ("b", "b"), ("b", ""), ("", "c"))


def test_three_of_ten_captions_are_varied_by_a_word_or_two():
    rng, text = np.random.default_rng(0), "a person puts a carton into a bag"
    changed = [one for one in (vary_caption(text, rng) for _ in range(2000)) if one != text]
    assert 0.2 < len(changed) / 2000 <= 0.32  # some swaps give the same words back
    assert {len(one.split()) for one in changed} <= {6, 7, 8}
    assert vary_caption("one", rng) == "one"


def _captioned(seed):
    video = toy_video(seed)
    words = np.array([["hand on left" if f[4] > 1 else "hand on right" if f[4] < -1 else "" for f in clip]
                      for clip in video.features])  # fmt: skip
    return dataclasses.replace(video, captions=tuple((clip[0], clip[0]) for clip in words.tolist()))


def test_a_memory_of_captions_is_trained_and_needs_them():
    head = make_head("captions-2-1", WIDTH, ACTIVITIES, ["x", "y", "z"])
    curve = train_head(head, [_captioned(0), _captioned(1)], HeadRecipe(epochs=2))
    assert np.isfinite(curve).all()
    assert predict(head, _captioned(5)).shape == (60, 4, ACTIVITIES)
    assert head.parts[0].tokens_read() == 2 * 2 * 1
    with pytest.raises(LvmError, match="captions of toy-0 expected"):
        train_head(head, [toy_video(0)])


def test_entries_of_captions_are_the_same_in_every_run_and_zero_without_words():
    video = _captioned(3)
    one, two = (encode_captions(video, 512, training=training) for training in (False, False))
    assert np.array_equal(one, two) and one.shape == (60, 2, 512)
    silent = np.array([clip[0] == "" for clip in video.captions])
    assert not one[silent].any() and np.abs(one[~silent]).sum((1, 2)).min() > 0
    head = make_head("captions-2-1", WIDTH, ACTIVITIES).eval()
    past = head.watch(video)[0](np.array([10]))
    torch.testing.assert_close(past.text[0, 0], torch.from_numpy(one[9]))
