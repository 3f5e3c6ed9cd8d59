"""TinyMem and dense memory as parts of a detection head."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.errors import LvmError
from export.bundle.class_embeddings import embed_descriptions
from export.networks.attention import make_key_bias
from export.papers.detection.average_precision import Ranking, mean_ap_interval
from export.papers.detection.head import DetectionHead, HeadRecipe
from export.papers.detection.named import ClipSize, make_head, make_parts
from export.papers.detection.tinymem import TinyMem, TinyMemRule, encode_activities
from export.papers.detection.train import evaluate_head, train_head
from export.papers.networks.dense_memory import Compression, count_dense_tokens
from export.papers.networks.memory_attention import Entries
from tests.support.detection_videos import (
    ACTIVITIES,
    FRAMES,
    REGIONS,
    WIDTH,
    assert_knows_only_the_past,
    toy_video,
)

DOING = ["scanning an item", "weighing an item", "inspecting an item"]
SOURCES = [("text",), ("region",), ("tokens",), ("dense",), ("text", "region")]


def _part(sources, **changes) -> TinyMem:
    torch.manual_seed(0)
    rule = replace(TinyMemRule(sources=sources, length=3, regions=4, text_width=32), **changes)
    return TinyMem(WIDTH, DOING, rule, regions=REGIONS, frames=FRAMES)


@pytest.mark.parametrize("sources", SOURCES, ids="+".join)
def test_every_memory_knows_only_the_past_and_the_newest_first(sources):
    part = _part(sources)
    assert_knows_only_the_past(part)
    past = part.watch(toy_video())(np.array([0, 2, 40]))
    assert past.valid.tolist() == [[False] * 3, [True, True, False], [True] * 3]
    if "region" in sources:
        torch.testing.assert_close(past.region[2, 0], torch.from_numpy(toy_video().features[39]))
    if sources == ("dense",):
        torch.testing.assert_close(past.dense[2, 2], torch.from_numpy(toy_video().tokens[37]).float())


@pytest.mark.parametrize("sources", SOURCES, ids="+".join)
def test_what_is_not_there_says_nothing(sources):
    """Before the first clip has passed, a head with this memory says what its layers say without one."""
    part = _part(sources).eval()
    torch.nn.init.normal_(part.out.weight)
    video = toy_video()
    regions, valid = torch.from_numpy(video.features[:2]), torch.from_numpy(video.valid[:2])
    past = part.watch(video)(np.array([0, 1]))
    with torch.inference_mode():
        text = part(regions, valid, past)
        x = regions
        for layer in part.layers:
            x = layer(x, make_key_bias(valid), None, FRAMES)
        alone = part.out(part.norm(x))
    torch.testing.assert_close(text[0], alone[0])
    assert not torch.allclose(text[1], alone[1], atol=1e-5)


def test_region_memory_learns_what_only_the_clip_before_tells():
    """Of the toy's activities two look alike and differ by the clip before; chance between them is half."""
    train, test = [toy_video(seed, 120) for seed in range(4)], [toy_video(seed, 120) for seed in (10, 11)]
    score = {}
    for name, parts in (("none", []), ("region", [_part(("region",), length=2)])):
        head = DetectionHead(WIDTH, ACTIVITIES, parts)
        train_head(head, train, HeadRecipe(epochs=25, learning_rate=2e-3))
        score[name] = float(mean_ap_interval([Ranking(evaluate_head(head, test))]).estimate)
    assert score["region"] > score["none"] + 0.1, score


def test_text_entries_are_the_likeliest_classes_and_repeat():
    part = _part(("text",), slots=6, classes=2)
    train = [toy_video(seed) for seed in range(3)]
    part.prepare(train, HeadRecipe(epochs=60, learning_rate=1e-2, parts_learning_rate=None))
    one = encode_activities(part._encoder._labels, toy_video(7), part.rule)
    assert np.array_equal(one, encode_activities(part._encoder._labels, toy_video(7), part.rule))
    assert one.shape == (60, 6) and one.min() >= 0 and one.max() < ACTIVITIES
    assert all(len(np.unique(clip)) <= 2 for clip in one)
    doing = toy_video(7).clip_labels[:, 0]
    assert np.mean(one[doing][:, 0] == 0) > 0.8, "activity 0 shows by its features alone"


def test_what_makes_entries_is_not_trained_with_the_head():
    part = _part(("text", "region"))
    part.prepare([toy_video()], HeadRecipe(epochs=1))
    before = [parameter.clone() for parameter in part._encoder._labels.parameters()]
    train_head(DetectionHead(WIDTH, ACTIVITIES, [_Prepared(part)]), [toy_video()], HeadRecipe(epochs=1))
    assert all(torch.equal(a, b) for a, b in zip(before, part._encoder._labels.parameters(), strict=True))
    assert not any("_labels" in name for name, _ in part.named_parameters())


class _Prepared(TinyMem):
    """As another one that is prepared already."""

    def __init__(self, part: TinyMem) -> None:
        super().__init__(WIDTH, DOING, part.rule, regions=REGIONS, frames=FRAMES)
        self._encoder = part._encoder

    def prepare(self, videos, recipe):
        pass


def test_dense_memory_compresses_and_learns_from_the_newest_entry_only():
    """MeMViT's kernel (7, 3, 3) and stride (4, 2, 2): of two frames of 7 x 7 sixteen tokens are left."""
    assert count_dense_tokens(2) == 16 and count_dense_tokens(16, 14) == 4 * 7 * 7
    compression = Compression(WIDTH)
    entries = torch.randn(2, 3, FRAMES, 49, WIDTH)
    small = compression(entries)
    assert small.shape == (2, 3, 16, WIDTH)
    torch.testing.assert_close(small[:, 1:2], compression(entries[:, 1:2]))
    for frames in (FRAMES, 5):
        many = torch.randn(2, 3, frames, 49, WIDTH)
        volume = many.reshape(6, frames, 7, 7, WIDTH).permute(0, 4, 1, 2, 3)
        plain = compression.conv(volume).flatten(2).transpose(1, 2).reshape(2, 3, -1, WIDTH)
        torch.testing.assert_close(compression(many), plain)

    def gradient(of):
        compression.zero_grad()
        compression(entries)[:, of].sum().backward()
        return compression.conv.weight.grad

    assert gradient(0).abs().sum() > 0
    compression.zero_grad()
    assert not compression(entries)[:, 1:].requires_grad or not gradient(slice(1, None)).any()


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("text-12-1", 48), ("region-12-1", 72), ("tiny-12-1", 60), ("dense-12-1", 384), ("tokens-6-2-8", 48)],
)
def test_memory_tokens_are_the_keys_of_past_clips_in_all_layers(name, tokens):
    """Two of four layers read: four slots of text make two tokens, six regions three, a clip sixteen."""
    (part,) = make_parts(name, WIDTH, DOING)
    assert part.tokens_read() == tokens


@pytest.mark.parametrize(
    "name", ["text-3-1", "region-3-1", "tiny-3-1", "dense-3-1", "whole-3-1", "tokens-3-1-8"]
)
def test_heads_are_made_for_the_clips_that_they_are_asked_about(name):
    """The toy's clips have other numbers of regions and frames than the tools' default."""
    video, size = toy_video(), ClipSize(REGIONS, FRAMES)
    assert (size.regions, size.frames) != (ClipSize().regions, ClipSize().frames)
    (part,) = make_parts(name, WIDTH, DOING, size)
    past = part.watch(video)(np.array([40]))
    assert sum(part._keys(layer, past).k.shape[2] for layer in part.plan) == part.tokens_read()


def test_dense_memory_begins_as_a_mean_and_learns_from_the_newest_entry_or_from_all():
    (part,), (whole,) = (make_parts(name, WIDTH, DOING) for name in ("dense-3-1", "whole-3-1"))
    tokens = torch.rand(2, 3, 2, 49, WIDTH)
    for one, learned in ((part, [True, False, False]), (whole, [True, True, True])):
        keys = next(iter(one.memories.values()))
        flat = keys.keys.conv.weight.flatten(1)
        torch.testing.assert_close(flat, flat[:1, :1].expand_as(flat))
        given = tokens.clone().requires_grad_()
        keys(Entries(given, torch.ones(2, 3, dtype=torch.bool))).k.square().sum().backward()
        assert [bool(given.grad[:, entry].any()) for entry in range(3)] == learned


def test_tiny_reads_at_least_five_times_fewer_tokens_than_dense():
    (tiny,), (dense,) = (make_parts(name, WIDTH, DOING) for name in ("tiny-12-1", "dense-12-1"))
    assert dense.tokens_read() >= 5 * tiny.tokens_read()
    assert tiny.plan == {1: "text", 3: "region"} and set(dense.plan.values()) == {"dense"}


def test_layers_alone_have_no_memory_and_other_names_are_told():
    head = make_head("layers", WIDTH, ACTIVITIES, DOING)
    assert head.parts[0].tokens_read() == 0
    assert make_head("tiny-2-1", WIDTH, ACTIVITIES).parts[0].table.shape[0] == ACTIVITIES
    for name in (
        "tiny",
        "text-2",
        "dense-a-1",
        "region-0-1",
        "tokens-4-1-0",
        "bank-0",
        "bank-1e400",
        "online-2-10",
    ):
        with pytest.raises(LvmError, match="a memory must be one of none, bank"):
            make_parts(name, WIDTH, DOING)


def test_descriptions_start_close_where_they_share_words():
    table = embed_descriptions(
        ["scanning an item", "weighing an item", "putting it into a bag", "Scanning  an ITEM"], 512
    )
    near = table @ table.T
    assert np.allclose(np.diag(near), 1, atol=1e-6)
    assert near[0, 1] > 0.4 and abs(near[0, 2]) < 0.2 and near[0, 3] > 0.999
    assert np.array_equal(
        table,
        embed_descriptions(
            ["scanning an item", "weighing an item", "putting it into a bag", "Scanning  an ITEM"], 512
        ),
    )


def test_every_head_of_the_tables_exists_and_has_its_tokens_counted():
    from tools.papers.tinymem import count_memory_tokens, list_table_heads, make_rows, parse_queue

    asked = list_table_heads(6, 1)
    names = {name for table in asked.values() for name in table}
    counted = [name for name in names if name.startswith(("tiny", "dense", "l"))]
    assert {name: count_memory_tokens(name, WIDTH) for name in counted} == {
        "layers": 0, "dense-1-1": 32, "dense-3-1": 96, "dense-6-1": 192,
        "tiny-1-1": 5, "tiny-3-1": 15, "tiny-6-1": 30, "tiny-12-1": 60, "tiny-12-5": 60,
    }  # fmt: skip
    gain = {"map": [0.5, 0.4, 0.6], "gain": {"layers": [0.1, 0.0, 0.2]}}
    heads = {name: gain | {"memory_tokens": count_memory_tokens(name, WIDTH)} for name in names}
    row = make_rows(heads, asked["modalities"], ("layers", "dense-6-1"))[-1]
    assert row == ["tiny-6-1", 30, 0.5, 0.4, 0.6, "+0.100 +0.000 +0.200", ""]
    assert parse_queue("8-2") == (8, 2) and "tiny-16-10" in list_table_heads(8, 2)["lengths"]
    for wrong in ("8", "0-1", "8-0", "a-b", "8-2-1"):
        with pytest.raises(ArgumentTypeError, match="expected LENGTH-STRIDE such as 8-2"):
            parse_queue(wrong)
