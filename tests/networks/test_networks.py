"""The three networks: shapes, masks, fusion, presets, weights."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.errors import LvmError
from engines.manifest import GRAPHS
from export.bundle.presets import load_preset, preset_names
from export.networks.attention import MASKED, Attention
from export.networks.backbone import ConvBackbone, TimmBackbone, to_grid_tokens
from export.networks.model import LvmNet, TorchEngine, make_untrained
from export.networks.pretrained import load_backbone_weights
from export.networks.signatures import graph_inputs, graph_outputs
from export.parity import sample_inputs as feeds
from tests.support.export_models import small_config, small_network

VARIANTS: list[dict[str, Any]] = [
    {},
    {"context": ("svd", "text", "region"), "queue": {"length": 3, "text_slots": 5, "regions": 4}},
    {"context": ("region",), "queue": {"length": 2, "stride": 2, "regions": 3}, "reader_candidates": 8},
    {"reader_candidates": 8, "order": True},
    {"object_fusion": "cell", "recency_tokens": 0},
    {"svd_rank": 0, "sampler_novelty": False, "sampler_cell_code": False, "clip_candidates": 98},
]


def reader_inputs(network: LvmNet, *asked: feeds.QueryShape, seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(200, network.config.d_backbone)).astype(np.float32)
    arrays = feeds.draw_reader_feeds(network.config, pool, asked, rng)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def sampler_inputs(network: LvmNet, batch: int = 2) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(200, network.config.d_backbone)).astype(np.float32)
    arrays = feeds.draw_sampler_feeds(network.config, pool, batch, rng)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("changes", VARIANTS)
def test_outputs_have_the_shapes_of_the_contract(changes: dict[str, Any]) -> None:
    network = small_network(**changes)
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(100, network.config.d_backbone)).astype(np.float32)
    given = {
        "backbone": {"image": feeds.draw_scenes(3, network.config.image_size, rng)},
        "sampler": feeds.draw_sampler_feeds(network.config, pool, 3, rng),
        "reader": feeds.draw_reader_feeds(network.config, pool, (feeds.TIME, feeds.OBJECT, feeds.EMPTY), rng),
    }
    for name in GRAPHS:
        assert set(given[name]) == {spec.name for spec in graph_inputs(network.config, name)}
        outputs = TorchEngine(network, name)(given[name])
        for spec in graph_outputs(network.config, name):
            shape = tuple(3 if isinstance(size, str) else size for size in spec.shape)
            assert outputs[spec.name].shape == shape, spec.name
            assert outputs[spec.name].dtype == np.float32
            assert np.isfinite(outputs[spec.name]).all(), spec.name


def test_preset_paper_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = LvmNet(load_preset("paper"))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert abs(count / 285.7e6 - 1) < 0.01, count


def test_conv_backbone_stays_small() -> None:
    count = sum(parameter.numel() for parameter in ConvBackbone(224, 128).parameters())
    assert 1.0e6 < count < 1.5e6, count


@pytest.mark.parametrize("size", [56, 112, 224])
def test_conv_backbone_gives_49_tokens_at_every_size(size: int) -> None:
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    assert ConvBackbone(size, 16).eval()(image).shape == (1, 49, 16)


def test_conv_backbone_refuses_a_size_off_the_grid() -> None:
    with pytest.raises(LvmError, match=r"image_size of the conv backbone must be one of .*112, 224.*got 160"):
        ConvBackbone(160, 16)


def test_tokens_are_ordered_row_by_row() -> None:
    """A bright spot in the upper right corner changes token 6 and is out of sight of token 42."""
    backbone = small_network(image_size=112).backbone
    dark = torch.full((1, 112, 112, 3), 90, dtype=torch.uint8)
    lit = dark.clone()
    lit[0, :8, -8:] = 255
    with torch.inference_mode():
        change = (backbone(lit) - backbone(dark)).abs().sum(-1)[0]
    assert change[6] > 0.1
    assert change[6 * 7] == 0


def test_every_preset_loads_and_unknown_ones_are_named() -> None:
    assert preset_names() == ("edge", "lite", "paper", "tiny")
    assert load_preset("tiny").d_backbone == 128
    with pytest.raises(LvmError, match="preset must be one of edge, lite, paper, tiny, got huge"):
        load_preset("huge")


def test_equal_seeds_give_equal_weights_and_leave_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = make_untrained(small_config(), 7), make_untrained(small_config(), 7)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_attention_ignores_masked_keys_exactly() -> None:
    attention = Attention(16, 4).eval()
    x = torch.randn(1, 10, 16)
    bias = torch.zeros(1, 10)
    bias[:, 6:] = MASKED
    with torch.inference_mode():
        torch.testing.assert_close(attention(x, x, x, bias), attention(x, x[:, :6], x[:, :6], bias[:, :6]))


def test_plain_attention_is_the_fused_one_and_its_weights_sum_to_one() -> None:
    attention = Attention(16, 4).eval()
    q, x = torch.randn(2, 5, 16), torch.randn(2, 10, 16)
    bias = torch.randn(2, 10)
    with torch.inference_mode():
        out, weights = attention.with_weights(q, x, x, bias)
        torch.testing.assert_close(out, attention(q, x, x, bias))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))


def test_a_batch_with_nothing_to_see_gives_no_nan() -> None:
    network = small_network()
    inputs = reader_inputs(network, feeds.TIME)
    for name in ("memory_valid", "object_valid", "activity_valid", "query_valid"):
        inputs[name] = torch.zeros_like(inputs[name])
    inputs["svd_strength"] = torch.zeros_like(inputs["svd_strength"])
    output = network.reader(**inputs)
    assert all(torch.isfinite(tensor).all() for tensor in output if tensor is not None)
    assert not output.evidence.any()
    sampler = sampler_inputs(network)
    sampler["valid"][:] = False
    assert torch.isfinite(network.sampler(**sampler)).all()


def test_invalid_tokens_influence_no_score() -> None:
    network = small_network()
    inputs = sampler_inputs(network)
    before = network.sampler(**inputs)[inputs["valid"]]
    inputs["features"][~inputs["valid"]] = 50.0
    torch.testing.assert_close(network.sampler(**inputs)[inputs["valid"]], before)


@pytest.mark.parametrize(
    ("hidden", "flag"),
    [
        ("memory_features", "memory_valid"),
        ("object_tokens", "object_valid"),
        ("activity", "activity_valid"),
        ("query_tick", "query_valid"),
    ],
)
def test_masked_inputs_change_no_answer(hidden: str, flag: str) -> None:
    network = small_network()
    inputs = reader_inputs(network, feeds.QueryShape(object=False, activity=False, filled=0.5), feeds.OBJECT)
    if flag == "activity_valid":
        inputs[flag][:] = False
    before = network.reader(**inputs)
    inputs[hidden][~inputs[flag]] = 7
    after = network.reader(**inputs)
    torch.testing.assert_close(after.activity_logits, before.activity_logits)
    torch.testing.assert_close(after.start_logits, before.start_logits)
    torch.testing.assert_close(after.pointer_logits, before.pointer_logits)
    torch.testing.assert_close(after.evidence, before.evidence)


@pytest.mark.parametrize("fusion", ["cell", "pooled"])
def test_the_object_multiplies_the_memory(fusion: str) -> None:
    """With the object's own tokens unseen, it still reaches the answer through the product."""
    network = small_network(object_fusion=fusion, encoder_layers=1)
    inputs = reader_inputs(network, feeds.ACTIVITY)
    embed = network.reader.embed
    hot = torch.nn.functional.one_hot(inputs["memory_cell"].long(), 49).float()
    svd = inputs["svd_basis"], inputs["svd_strength"]

    def memory_part(tokens: Tensor, valid: bool) -> Tensor:
        flag = torch.tensor([valid])
        asked = embed.embed_question(*svd, tokens, flag, inputs["activity"], inputs["activity_valid"])
        return embed.memory(inputs["memory_features"], hot, asked, flag)

    other = inputs["object_tokens"].flip(1) * 2
    assert not torch.allclose(memory_part(inputs["object_tokens"], True), memory_part(other, True))
    torch.testing.assert_close(memory_part(inputs["object_tokens"], False), memory_part(other, False))
    if fusion == "pooled":
        rolled = inputs["object_tokens"].roll(5, 1)
        torch.testing.assert_close(
            memory_part(inputs["object_tokens"], True), memory_part(rolled, True), rtol=1e-4, atol=1e-5
        )


def test_a_question_reads_its_most_relevant_tokens_only() -> None:
    """What lies in the other slots changes no answer; as many tokens are read as the config says."""
    network = small_network(reader_candidates=8)
    inputs = reader_inputs(network, feeds.TIME)
    output = network.reader(**inputs)
    relevance = output.relevance
    assert relevance is not None
    read = output.pointer_logits > -1e8
    assert int(read.sum()) == 8
    best = relevance.masked_fill(~inputs["memory_valid"], -torch.inf).topk(8).indices
    assert set(best[0].tolist()) == set(read[0].nonzero().flatten().tolist())
    changed = inputs | {"memory_tick": torch.where(read, inputs["memory_tick"], 0)}
    torch.testing.assert_close(network.reader(**changed).activity_logits, output.activity_logits)
    assert not output.evidence[~read].any()


def test_relevance_learns_from_answers() -> None:
    network = small_network(reader_candidates=8).train()
    output = network.reader(**reader_inputs(network, feeds.TIME))
    output.activity_logits.square().sum().backward()
    gradient = network.reader.relevance.score.weight.grad
    assert gradient is not None and float(gradient.abs().sum()) > 0


def test_evidence_is_a_share_of_attention_on_valid_memory() -> None:
    network = small_network()
    inputs = reader_inputs(network, feeds.ACTIVITY, feeds.TIME)
    evidence = network.reader(**inputs).evidence.detach()
    assert float(evidence.min()) >= 0 and float(evidence.sum(1).max()) < 1
    assert not evidence[~inputs["memory_valid"]].any()


def test_a_memory_bias_removes_tokens_and_passes_gradients() -> None:
    network = small_network()
    inputs = reader_inputs(network, feeds.FULL)
    bias = torch.zeros(inputs["memory_valid"].shape, requires_grad=True)
    network.reader(**inputs, memory_bias=bias).activity_logits.sum().backward()
    assert bias.grad is not None and bool(bias.grad.abs().sum() > 0)
    cut = torch.zeros_like(bias)
    cut[:, ::2] = MASKED
    evidence = network.reader(**inputs, memory_bias=cut.detach()).evidence
    assert not evidence[:, ::2].any()


def test_dropout_is_active_only_while_training() -> None:
    network = small_network(dropout=0.5)
    inputs = sampler_inputs(network)
    assert torch.equal(network.sampler(**inputs), network.sampler(**inputs))
    network.train()
    assert not torch.equal(network.sampler(**inputs), network.sampler(**inputs))


def test_feature_maps_of_both_layouts_become_the_same_tokens() -> None:
    grid = torch.randn(2, 16, 7, 7)
    nhwc = grid.permute(0, 2, 3, 1)
    torch.testing.assert_close(to_grid_tokens(grid, 16, "a"), to_grid_tokens(nhwc, 16, "a"))
    assert torch.equal(to_grid_tokens(grid, 16, "a")[0, 2 * 7 + 4], grid[0, :, 2, 4])
    with pytest.raises(LvmError, match=r"backbone a must give a 7x7 grid of width 16, got .*\(16, 14, 14\)"):
        to_grid_tokens(torch.zeros(1, 16, 14, 14), 16, "a")


@pytest.mark.parametrize(("name", "width"), [("mobilenetv4_conv_small", 960), ("mobilenetv3_small_050", 288)])
def test_timm_backbones_give_tokens(name: str, width: int) -> None:
    backbone = TimmBackbone(name, 224, width).eval()
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 224, 224, 3, dtype=torch.uint8)).shape == (1, 49, width)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(LvmError, match="backbone must be 'conv' or the name of a timm model, got nosuchnet"):
        TimmBackbone("nosuchnet", 224, 8)


def published_state() -> tuple[TimmBackbone, dict[str, Tensor]]:
    """A backbone and a state dict of the published shape: as timm's own, with its classifier."""
    from export.networks.backbone import import_timm

    name = "mobilenetv3_small_050"
    generator = torch.Generator().manual_seed(3)
    state = import_timm().create_model(name, pretrained=False).state_dict()
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return TimmBackbone(name, 224, 288), state


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_published_weights_load_without_their_classifier(suffix: str, tmp_path: Any) -> None:
    from safetensors.torch import save_file

    backbone, state = published_state()
    path = tmp_path / f"published{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    load_backbone_weights(backbone, path)
    assert torch.equal(backbone.body.state_dict()["conv_stem.weight"], state["conv_stem.weight"])


def test_weights_of_the_published_swin_fit_the_paper_backbone(tmp_path: Any) -> None:
    from safetensors.torch import save_file

    from export.networks.backbone import import_timm

    published = import_timm().create_model("swinv2_cr_small_ns_224", pretrained=False).state_dict()
    assert published["head.fc.weight"].shape == (1000, 768)
    save_file(published, tmp_path / "swin.safetensors")
    backbone = TimmBackbone("swinv2_cr_small_ns_224", 224, 768)
    load_backbone_weights(backbone, tmp_path / "swin.safetensors")
    key = "stages.3.blocks.1.mlp.fc2.weight"
    assert torch.equal(backbone.body.state_dict()[key], published[key])


def test_weights_that_do_not_fit_are_refused_by_their_keys(tmp_path: Any) -> None:
    from safetensors.torch import save_file

    backbone, state = published_state()
    del state["conv_stem.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["bn1.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "wrong.safetensors")
    expected = (
        r"missing: conv_stem\.weight \(1\); unknown: extra\.weight \(1\); of another shape: bn1\.weight \(1\)"
    )
    with pytest.raises(LvmError, match=expected):
        load_backbone_weights(backbone, tmp_path / "wrong.safetensors")


def test_a_pickle_with_code_in_it_is_refused(tmp_path: Any) -> None:
    backbone, _ = published_state()
    torch.save({"state_dict": ConvBackbone}, tmp_path / "evil.pth")
    with pytest.raises(LvmError, match="must be a .safetensors file or a .pth of tensors only"):
        load_backbone_weights(backbone, tmp_path / "evil.pth")
