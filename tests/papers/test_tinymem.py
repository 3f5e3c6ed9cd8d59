"""Text and region memory in the attention of video transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from export.networks.backbone import import_torchvision
from export.networks.clip_entries import EntryCompression, count_compressed
from export.papers.networks.memory_attention import (
    Entries,
    MemoryProjection,
    Reach,
    RollingEntries,
    make_frame_distances,
    make_layer_plan,
    score_memory,
)
from export.papers.networks.remembering import MemoryTransformer, TinyMemConfig, align_regions
from export.papers.networks.trunks import Clip, MultiscaleTrunk, PlainViT, Trunk

CONFIG = TinyMemConfig(length=2, stride=2, text_width=24, text_slots=6, regions=4)


def _vit() -> PlainViT:
    torch.manual_seed(0)
    return PlainViT(classes=5, width=32, depth=4, heads=4, frames=4, size=32, patch=16).eval()


def _mvit() -> MultiscaleTrunk:
    """torchvision's blocks of MViTv2: pooled queries, keys and values, widened, with relative positions."""
    mvit = import_torchvision().models.video.mvit
    torch.manual_seed(0)
    wide = dict(kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3], stride_kv=[1, 2, 2])
    setting = [
        mvit.MSBlockConfig(num_heads=heads, input_channels=a, output_channels=b, stride_q=[1, q, q], **wide)
        for heads, a, b, q in ((1, 16, 16, 1), (2, 16, 32, 2), (2, 32, 32, 1), (2, 32, 32, 1))
    ]
    body = mvit.MViT(
        (32, 32), 4, setting, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True,
        proj_after_attn=True, num_classes=5,
    )  # fmt: skip
    return MultiscaleTrunk(body).eval()


def _memory(
    trunk: Trunk, model: MemoryTransformer, *, valid: bool = True, seed: int = 1
) -> dict[str, Entries]:
    generator = torch.Generator().manual_seed(seed)
    flags = torch.full((2, CONFIG.length), valid)
    width = trunk.out_width(trunk.depth - 1)
    return {
        "text": Entries(torch.randn(2, CONFIG.length, 6, 24, generator=generator), flags),
        "region": Entries(torch.randn(2, CONFIG.length, 4, width, generator=generator), flags),
    }


def _video() -> Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(3))


TRUNKS = {"vit": _vit, "mvit": _mvit}


@pytest.mark.parametrize("make", TRUNKS.values(), ids=TRUNKS)
def test_without_a_memory_the_network_says_exactly_what_it_says_alone(make):
    trunk = make()
    alone = trunk if isinstance(trunk, PlainViT) else trunk.body
    model = MemoryTransformer(trunk, CONFIG).eval()
    with torch.inference_mode():
        assert torch.equal(model(_video()).logits, alone(_video()))


@pytest.mark.parametrize("make", TRUNKS.values(), ids=TRUNKS)
def test_with_an_empty_memory_the_wrapped_network_equals_the_unwrapped(make):
    trunk = make()
    alone = trunk if isinstance(trunk, PlainViT) else trunk.body
    model = MemoryTransformer(trunk, CONFIG).eval()
    with torch.inference_mode():
        text = model(_video(), _memory(trunk, model, valid=False))
        torch.testing.assert_close(text.logits, alone(_video()), rtol=1e-5, atol=1e-6)
        assert text.regions.shape == (2, 4, trunk.out_width(trunk.depth - 1))
        other = model(_video(), _memory(trunk, model, valid=False, seed=9))
        assert torch.equal(text.logits, other.logits), "what is not valid must not matter"


@pytest.mark.parametrize("make", TRUNKS.values(), ids=TRUNKS)
@pytest.mark.parametrize("kind", ["text", "region"])
def test_every_kind_of_memory_changes_what_is_said(make, kind):
    trunk = make()
    model = MemoryTransformer(trunk, CONFIG).eval()
    with torch.inference_mode():
        before = model(_video(), _memory(trunk, model)).logits
        after = _memory(trunk, model) | {kind: _memory(trunk, model, seed=5)[kind]}
        assert not torch.allclose(model(_video(), after).logits, before, atol=1e-6)


def test_what_a_clip_leaves_is_what_the_next_one_reads():
    """Region tokens of two clips through a rolling queue, and gradients reach everything that is new."""
    trunk = _vit()
    model = MemoryTransformer(trunk, CONFIG)
    queue = RollingEntries(Reach(2, 2, trunk.frames), 4, 32)
    memory = _memory(trunk, model)
    for _ in range(3):
        read = queue.read(["a", "b"], _video())
        text = model(_video(), memory | {"region": read})
        queue.push(text.regions, ["a", "b"])
    assert read.valid.tolist() == [[True, False]] * 2
    text.logits.square().sum().backward()
    for name, parameter in [*model.memories.named_parameters(), ("regions", model.regions)]:
        if name == "regions" or "match" in name and parameter.grad is None:
            continue  # the newest tokens teach only what reads them, the clip after
        assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name


def test_the_published_mvit_v2_s_loads_and_stays_what_it_is():
    """A state dict of the published shape: 34.5 million numbers, under torchvision's names."""
    models = import_torchvision().models.video
    with torch.device("meta"):
        published = models.mvit_v2_s().state_dict()
        model = MemoryTransformer(MultiscaleTrunk(models.mvit_v2_s()), TinyMemConfig())
    assert sum(tensor.numel() for tensor in published.values()) == 34_537_744
    named = {f"trunk.body.{name}": tensor.shape for name, tensor in published.items()}
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert named.items() <= own.items()
    new = {name.split(".")[0] for name in own.keys() - named.keys()}
    assert new == {"memories", "regions"}
    assert model.plan == {
        1: "text",
        3: "text",
        5: "text",
        7: "text",
        9: "text",
        11: "text",
        13: "text",
        15: "region",
    }
    assert [model.trunk.width(layer) for layer in (1, 7, 15)] == [192, 384, 768]


def test_a_fine_tuned_videomae_state_dict_loads():
    """Names and shapes of the published ViT-B, as its authors' own code saves it."""
    block = {
        "norm1.weight": (768,), "norm1.bias": (768,), "attn.q_bias": (768,), "attn.v_bias": (768,),
        "attn.qkv.weight": (2304, 768), "attn.proj.weight": (768, 768), "attn.proj.bias": (768,),
        "norm2.weight": (768,), "norm2.bias": (768,), "mlp.fc1.weight": (3072, 768), "mlp.fc1.bias": (3072,),
        "mlp.fc2.weight": (768, 3072), "mlp.fc2.bias": (768,),
    }  # fmt: skip
    shapes = {f"blocks.{i}.{name}": shape for i in range(12) for name, shape in block.items()} | {
        "patch_embed.proj.weight": (768, 3, 2, 16, 16), "patch_embed.proj.bias": (768,),
        "fc_norm.weight": (768,), "fc_norm.bias": (768,), "head.weight": (400, 768), "head.bias": (400,),
    }  # fmt: skip
    with torch.device("meta"):
        model = PlainViT(classes=400)
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
    model.load_state_dict(state, assign=True)


@pytest.mark.parametrize("tokens", [1, 2, 5, 16, 32])
def test_a_projection_halves_each_entry_and_mixes_none(tokens):
    """Kernel 3, stride 2, padding 1, one group a channel, no bias."""
    conv = EntryCompression(6)
    assert list(conv.state_dict()) == ["conv.weight"] and conv.conv.groups == 6
    torch.nn.init.normal_(conv.conv.weight)
    x = torch.randn(2, 3, tokens, 6)
    out = conv(x)
    assert out.shape == (2, 3, count_compressed(tokens), 6)
    torch.testing.assert_close(out[:, 1:2], conv(x[:, 1:2]), msg="once, when it is pushed, is enough")
    changed = x.clone()
    changed[:, 0, :, 2] += 1
    touched = (conv(changed) - out).abs().amax((0, 2)) > 0
    assert touched.nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize(("length", "stride", "frames"), [(1, 1, 4), (3, 1, 8), (3, 2, 8), (2, 5, 16)])
def test_relative_positions_are_clip_steps_times_frames_and_frames(length, stride, frames):
    reach = Reach(length, stride, frames)
    distance = make_frame_distances(reach, frames, spread=True).view(frames, length, frames)
    for now in range(frames):
        for entry in range(length):
            for then in range(frames):
                expected = (1 + stride * entry) * frames + now - then
                assert distance[now, entry, then] == expected
    assert int(distance.min()) >= 1 and int(distance.max()) < reach.distances


def test_relative_positions_of_memory_are_in_time_only_and_none_for_class_tokens():
    projection = MemoryProjection(8, 8, 2, Reach(2, 1, 4), 4, spread=False)
    keys = projection(Entries(torch.zeros(1, 2, 4, 8), torch.ones(1, 2, dtype=torch.bool)))
    q = torch.randn(1, 2, 1, 4).expand(1, 2, 5, 4)  # one query at each frame, and a class token
    frame, placed = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([True] * 4 + [False])
    keys = keys._replace(k=torch.zeros_like(keys.k))
    scores = score_memory(q, frame, placed, keys, 0.5)
    expected = 0.5 * torch.einsum("bhqe,qme->bhqm", q[:, :, :4], projection.positions[projection.distance])
    torch.testing.assert_close(scores[:, :, :4], expected)
    assert not scores[:, :, 4].any()


def test_layer_plans():
    assert make_layer_plan(16, ("text", "region")) == {**dict.fromkeys(range(1, 15, 2), "text"), 15: "region"}
    long = make_layer_plan(16, ("text", "region"), of_regions=0.75)
    assert list(long.values()) == ["text"] * 2 + ["region"] * 6 and max(long) == 15
    assert make_layer_plan(4, ("dense",), share=1.0) == dict.fromkeys(range(4), "dense")
    assert make_layer_plan(24, ("text",)) == dict.fromkeys(range(1, 24, 2), "text")
    with pytest.raises(ValueError, match="share must be in"):
        make_layer_plan(4, ("text",), share=0)
    with pytest.raises(ValueError, match="kinds must be one alone or text and region"):
        make_layer_plan(4, ("text", "dense"))


def test_a_rolling_queue_masks_what_another_video_left():
    queue = RollingEntries(Reach(3, 1, 4), 2, 3)
    for clip, videos in enumerate((["a", "b"], ["a", "b"], ["a", "c"])):
        queue.push(torch.full((2, 2, 3), float(clip + 1)), videos)
    read = queue.read(["a", "c"], torch.zeros(1))
    assert read.valid.tolist() == [[True, True, True], [True, False, False]]
    assert read.tokens[:, :, 0, 0].tolist() == [[3, 2, 1], [3, 0, 0]]
    assert not queue.read(["d", "d"], torch.zeros(1)).valid.any()


def test_a_rolling_queue_keeps_no_gradient_and_no_more_than_is_read():
    queue = RollingEntries(Reach(2, 3, 4), 1, 1)
    for clip in range(9):
        queue.push(torch.full((1, 1, 1), float(clip), requires_grad=True), ["a"])
    read = queue.read(["a"], torch.zeros(1))
    assert read.tokens.flatten().tolist() == [8, 5] and not read.tokens.requires_grad
    assert len(queue._entries) == 4


def test_tokens_are_counted_as_the_keys_of_past_clips_in_all_layers():
    model = MemoryTransformer(_vit(), CONFIG)
    # Two of four layers: six captions make three tokens, four regions two; two entries of each.
    assert model.plan == {1: "text", 3: "region"}
    assert model.tokens_read() == 2 * 3 + 2 * 2
    keys = [model._keys(layer, _memory(model.trunk, model)) for layer in model.plan]
    assert sum(one.k.shape[2] for one in keys) == model.tokens_read()


def test_region_tokens_look_and_are_not_looked_at():
    trunk = _vit()
    clip = trunk.begin(_video())
    tokens = torch.randn(2, 4, 32)
    with_regions = Clip(torch.cat([clip.x, tokens], 1), clip.grid, 4)
    with torch.inference_mode():
        plain, both = trunk.layer(0, clip, None), trunk.layer(0, with_regions, None)
    torch.testing.assert_close(both.own, plain.x)
    assert not torch.allclose(both.region_tokens, tokens)


def test_roi_features_are_the_tokens_where_the_box_lies():
    tokens = torch.zeros(1, 2, 4, 4, 3)
    tokens[:, :, 1, 2, 0] = 1.0  # row 1, column 2
    boxes = torch.tensor([[[0.5, 0.25, 0.75, 0.5], [0.0, 0.75, 0.25, 1.0], [0.5, 0.25, 0.75, 0.5]]])
    regions = align_regions(tokens, boxes, torch.tensor([[True, True, False]]))
    assert regions.shape == (1, 3, 3)
    assert float(regions[0, 0, 0]) > 0.5 and not regions[0, 1].any() and not regions[0, 2].any()
