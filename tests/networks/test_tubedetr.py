"""Modified TubeDETR: shapes, alignment in time, masks, gradients, and weights that become the reader's."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from export.bundle.presets import load_preset
from export.networks.attention import Attention, DecoderLayer, make_key_bias
from export.networks.reader import Reader
from export.networks.tubedetr import TubeDETR, TubeOutput
from tests.support.export_models import small_config

FUSIONS = pytest.mark.parametrize("fusion", ["cell", "pooled"])
RELEVANCE = pytest.mark.parametrize("candidates", [0, 20], ids=["plain", "weighed"])


def network(**changes: Any) -> TubeDETR:
    """With a fast branch that is no longer zero."""
    torch.manual_seed(0)
    net = TubeDETR(small_config(**changes)).eval()
    torch.nn.init.normal_(net.fast.weight, std=0.2)
    return net


def inputs(net: TubeDETR, clips: int = 2, frames: int = 12) -> dict[str, Tensor]:
    width, classes = net.embed.project.in_features, net.embed.activity.in_features
    return {
        "frames": torch.randn(clips, frames, 49, width),
        "frame_tick": (100 + 5 * torch.arange(frames, dtype=torch.int32)).repeat(clips, 1),
        "frame_valid": torch.ones(clips, frames, dtype=torch.bool),
        "object_tokens": torch.randn(clips, 49, width),
        "object_valid": torch.ones(clips, dtype=torch.bool),
        "activity": torch.nn.functional.one_hot(torch.arange(clips) % classes, classes).float(),
        "activity_valid": torch.ones(clips, dtype=torch.bool),
    }


def told(out: TubeOutput) -> list[Tensor]:
    """Relevance only where the network has any."""
    return [tensor for tensor in out if tensor is not None]


@FUSIONS
@pytest.mark.parametrize("frames", [1, 5, 12])
def test_every_frame_is_a_step(fusion: str, frames: int) -> None:
    net = network(object_fusion=fusion)
    out = net(**inputs(net, 3, frames))
    shapes = [(3, 5), (3, frames, 4), (3, frames), (3, frames), (3,)]
    assert [tuple(tensor.shape) for tensor in told(out)] == shapes and out.relevance is None
    assert all(tensor.isfinite().all() for tensor in told(out))
    weighed = network(object_fusion=fusion, reader_candidates=20)(**inputs(net, 3, frames))
    assert [tuple(tensor.shape) for tensor in weighed] == [*shapes, (3, -(-frames // 5), 49)]


def test_one_query_token_attends_as_in_the_plain_attention() -> None:
    attention = Attention(16, 4).eval()
    query, key, value = torch.randn(6, 16), torch.randn(6, 9, 16), torch.randn(6, 9, 16)
    bias = make_key_bias(torch.rand(6, 9) < 0.7)
    plain = attention(query[:, None], key, value, bias)[:, 0]
    torch.testing.assert_close(attention.attend_single(query, key, value, bias), plain)


def test_aligned_steps_are_the_decoder_layer_with_all_other_frames_masked() -> None:
    layer = DecoderLayer(16, 4, 24, 0.0).eval()
    x, query, keys, values = torch.randn(2, 3, 16), torch.randn(2, 3, 16), *torch.randn(2, 2, 3, 7, 16)
    step_bias, bias = torch.zeros(2, 3), make_key_bias(torch.rand(2, 3, 7) < 0.7)
    aligned = layer.attend_aligned(x, query, step_bias, keys, values, bias)
    for step in range(3):
        own = (keys[:, step], values[:, step], bias[:, step])
        torch.testing.assert_close(aligned[:, step], layer(x, query, step_bias, *own)[:, step])


def changed_steps(net: TubeDETR, frame: int, frames: int = 12) -> list[int]:
    """The steps whose start logit changes with the picture of one frame."""
    given = inputs(net, 1, frames)
    before = net(**given).start_logits
    given["frames"][:, frame] += 1.0
    change = (net(**given).start_logits - before).abs()[0]
    return torch.nonzero(change > 1e-6).flatten().tolist()


def test_a_frame_between_slow_ones_is_seen_at_its_own_step_only() -> None:
    assert changed_steps(network(decoder_layers=1), 7) == [7]


def test_a_slow_frame_is_seen_at_its_own_and_the_following_steps() -> None:
    assert changed_steps(network(decoder_layers=1), 5) == [5, 6, 7, 8, 9]
    assert changed_steps(network(decoder_layers=1), 10) == [10, 11]


def test_frames_speak_to_each_other_through_their_steps() -> None:
    assert changed_steps(network(decoder_layers=2), 7) == list(range(12))


@FUSIONS
def test_the_query_reaches_frames_between_slow_ones_through_the_slow_branch_only(fusion: str) -> None:
    net = network(object_fusion=fusion)
    given = inputs(net)
    before = net(**given)
    given["object_tokens"] = given["object_tokens"].flip(0)
    after = net(**given)
    assert not torch.allclose(before.activity_logits, after.activity_logits, atol=1e-4)
    assert not torch.allclose(before.boxes_cxcywh[:, 7], after.boxes_cxcywh[:, 7], atol=1e-4)


@pytest.mark.parametrize(
    ("hidden", "flag"), [("object_tokens", "object_valid"), ("activity", "activity_valid")]
)
@RELEVANCE
def test_what_was_not_asked_changes_no_answer(hidden: str, flag: str, candidates: int) -> None:
    net = network(reader_candidates=candidates)
    given = inputs(net)
    given[flag][:] = False
    before = net(**given)
    given[hidden] = given[hidden] + 7
    torch.testing.assert_close(told(net(**given)), told(before))


@RELEVANCE
def test_a_padded_clip_answers_like_the_short_one(candidates: int) -> None:
    net = network(reader_candidates=candidates)
    given = inputs(net, 1, 12)
    given["frame_valid"][:, 8:] = False
    short = {name: part[:, :8] if name.startswith("frame") else part for name, part in given.items()}
    padded, plain = net(**given), net(**short)
    torch.testing.assert_close(padded.activity_logits, plain.activity_logits)
    torch.testing.assert_close(padded.boxes_cxcywh[:, :8], plain.boxes_cxcywh)
    torch.testing.assert_close(padded.start_logits[:, :8], plain.start_logits)
    assert (padded.end_logits[:, 8:] < -1e8).all()


@RELEVANCE
def test_clips_of_a_batch_do_not_touch_each_other(candidates: int) -> None:
    net = network(reader_candidates=candidates)
    given = inputs(net, 3)
    one = net(**{name: part[1:2] for name, part in given.items()})
    torch.testing.assert_close([part[1:2] for part in told(net(**given))], told(one))


@RELEVANCE
def test_a_clip_of_padding_alone_gives_no_nan(candidates: int) -> None:
    net = network(reader_candidates=candidates)
    given = inputs(net)
    for name in ("frame_valid", "object_valid", "activity_valid"):
        given[name][:] = False
    assert all(tensor.isfinite().all() for tensor in told(net(**given)))


@FUSIONS
@RELEVANCE
def test_every_weight_gets_a_gradient_from_the_first_step_on(fusion: str, candidates: int) -> None:
    torch.manual_seed(0)
    net = TubeDETR(small_config(object_fusion=fusion, reader_candidates=candidates)).train()
    given = inputs(net)
    given["frames"].requires_grad_()
    out = net(**given)
    sum(tensor.square().mean() for tensor in told(out)).backward()
    # A bias of keys moves all scores alike, DETR's first steps attend to zeros, and answers teach neither
    # outlines nor identities: no gradient by design.
    by_design = re.compile(r"key\.bias$|^decoder\.0\.steps\.(query|key|value)\.|\.outline\.|\.identity\.")
    told_otherwise = re.compile(r"\.outline\.|\.identity\.")
    named = net.named_parameters()
    assert all(weight.grad is not None for name, weight in named if not told_otherwise.search(name))
    flat = {name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()}
    still = sorted(name for name in flat if not by_design.search(name))
    assert still == []
    assert given["frames"].grad is not None and given["frames"].grad[:, ::5].flatten(2).any(-1).all()


@pytest.mark.parametrize("changes", [{}, {"object_fusion": "cell", "svd_rank": 0, "sampler_novelty": False}])
def test_its_weights_become_the_readers_wherever_both_have_them(changes: dict[str, Any]) -> None:
    if "svd_rank" in changes:
        changes = changes | {"clip_candidates": 98}
    config = small_config(**changes)
    torch.manual_seed(1)
    net, reader = TubeDETR(config), Reader(config)
    missing, unexpected = reader.load_state_dict(net.state_dict(), strict=False)
    assert set(unexpected) == {"fast.weight", "fast.bias"}
    assert {name.rsplit(".", 1)[0] for name in missing} <= {"heads.places", "embed.svd", "embed"}
    loaded = reader.state_dict()
    assert all(
        torch.equal(loaded[name], weight) for name, weight in net.state_dict().items() if name in loaded
    )


def test_it_learns_at_which_frame_the_asked_object_is() -> None:
    """One frame of four is full of the object: its step must get the start, by the object alone."""
    torch.manual_seed(0)
    net = TubeDETR(small_config(dropout=0.0), stride=1).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        given = inputs(net, 8, 4)
        at = torch.randint(4, (8,))
        given["object_tokens"] = given["object_tokens"][:, :1].expand(-1, 49, -1)
        given["frames"][torch.arange(8), at] = given["object_tokens"]
        loss = torch.nn.functional.cross_entropy(net(**given).start_logits, at)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1.2  # chance is log 4
    assert max(losses[-5:]) < 0.3


def test_paper_width_has_the_readers_size_without_its_sense_of_time_and_with_the_fast_branch() -> None:
    config = load_preset("paper")
    with torch.device("meta"):
        net, reader = TubeDETR(config), Reader(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in (("t", net), ("r", reader))}
    width = config.d_model
    assert count["t"] == count["r"] - 1 + width * (width + 1)
