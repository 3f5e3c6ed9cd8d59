"""Windows read clip by clip: with a network whose answers are known, and with the real one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.errors import LvmError
from export.evaluation.baseline import ClipQuery, read_window, split_clips
from export.networks.tubedetr import TubeDETR, TubeOutput
from tests.support.export_models import small_config

ASKED = ClipQuery(torch.zeros(49, 24), True, torch.eye(5)[2], False)


def telling(**given: Tensor) -> TubeOutput:
    """Says of each clip how many frames it has, and of each frame its first feature."""
    valid, first = given["frame_valid"], given["frames"][:, :, 0, 0]
    count = valid.sum(1).float()
    return TubeOutput(
        activity_logits=count[:, None] * torch.tensor([1.0, -1.0]),
        boxes_cxcywh=first[..., None] * torch.tensor([0.01, 0.01, 0.0, 0.0]),
        start_logits=first,
        end_logits=-first,
        presence_logit=count,
    )


def window(count: int) -> tuple[Tensor, Tensor]:
    """Frame i has feature i and tick 1000 + 5 i."""
    index = torch.arange(count)
    return index.float()[:, None, None].expand(-1, 49, 24).contiguous(), (1000 + 5 * index).to(torch.int32)


def test_clips_do_not_overlap_and_leave_no_frame_out() -> None:
    clips = split_clips(*window(7), 3)
    assert clips.valid.tolist() == [[True] * 3, [True] * 3, [True, False, False]]
    assert clips.frames[:, :, 0, 0][clips.valid].tolist() == list(range(7))
    assert clips.tick[clips.valid].tolist() == [1000 + 5 * index for index in range(7)]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_answers_are_joined_in_the_order_of_the_window(at_once: int) -> None:
    answer = read_window(telling, *window(7), ASKED, clip_frames=3, at_once=at_once)
    assert answer.ticks.tolist() == [1000 + 5 * index for index in range(7)]
    assert answer.start_logits.tolist() == list(range(7))
    assert answer.boxes_xyxy[:, 0] == pytest.approx(np.arange(7) * 0.01)
    assert answer.clip_presence_logit.tolist() == [3, 3, 1]


def test_activity_is_the_mean_over_clips_and_presence_the_surest_one() -> None:
    answer = read_window(telling, *window(7), ASKED, clip_frames=3)
    assert answer.activity_logits == pytest.approx(np.array([7, -7]) / 3)
    assert answer.presence_logit == 3


def test_every_clip_is_asked_the_same() -> None:
    heard: list[dict[str, Any]] = []

    def listening(**given: Tensor) -> TubeOutput:
        heard.append(given)
        return telling(**given)

    read_window(listening, *window(7), ASKED, clip_frames=3)
    assert heard[0]["object_valid"].tolist() == [True] * 3
    assert heard[0]["activity_valid"].tolist() == [False] * 3
    assert heard[0]["activity"].argmax(1).tolist() == [2] * 3
    assert heard[0]["object_tokens"].shape == (3, 49, 24)


def test_a_span_ends_with_its_last_frame() -> None:
    def pointing(**given: Tensor) -> TubeOutput:
        tick = given["frame_tick"]
        return telling(**given)._replace(start_logits=9.0 * (tick == 1010), end_logits=9.0 * (tick == 1020))

    start, end, _ = read_window(pointing, *window(7), ASKED, clip_frames=10).span
    assert (start, end) == (202.0, 205.0)


def test_a_window_without_frames_is_refused() -> None:
    with pytest.raises(LvmError, match="got 0 frames, 0 ticks"):
        split_clips(torch.zeros(0, 49, 24), torch.zeros(0, dtype=torch.int32), 3)


def test_the_network_answers_a_window_as_it_answers_its_clips() -> None:
    torch.manual_seed(0)
    network = TubeDETR(small_config()).eval()
    tokens, ticks = torch.randn(8, 49, 24), window(8)[1]
    asked = ClipQuery(torch.randn(49, 24), True, torch.zeros(5), True)
    both = read_window(network, tokens, ticks, asked, clip_frames=4)
    halves = [read_window(network, tokens[i : i + 4], ticks[i : i + 4], asked, 4) for i in (0, 4)]
    joined = np.concatenate([half.boxes_xyxy for half in halves])
    assert both.boxes_xyxy == pytest.approx(joined, abs=1e-5)
    mean = (halves[0].activity_logits + halves[1].activity_logits) / 2
    assert both.activity_logits == pytest.approx(mean, abs=1e-5)
