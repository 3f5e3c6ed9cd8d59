"""Weights in eight bits: a smaller bundle that answers much like its network and can be exported again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engines.bundle import Bundle
from engines.manifest import Target
from engines.select import load_engine
from export.bundle.writer import load_network, write_bundle
from export.networks.model import LvmNet, TorchEngine
from export.onnx_graphs.weight_only import restore_fp32, round_to_int8
from export.parity.check import make_cases
from export.quantization.plan import Plan
from tests.support.export_models import card, small_network

TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def network() -> LvmNet:
    return small_network(d_backbone=64, d_model=64, ffn=128)


@pytest.fixture(scope="module")
def bundle(network: LvmNet, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("w8") / "bundle"
    write_bundle(network, card(network), path, Plan("w8", TARGETS, keep=("reader.embed.project.*",)))
    return Bundle.open(path)


def test_each_channel_is_rounded_by_its_own_scale() -> None:
    array = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    array[1] *= 1e4
    array[2] = 0
    values, scale = round_to_int8(array)
    assert values.dtype == np.int8 and scale.shape == (4, 1, 1)
    back = restore_fp32(values, scale)
    assert (np.abs(back - array) <= np.abs(array).max(axis=(1, 2), keepdims=True) / 254 * 1.001).all()
    assert (back[2] == 0).all() and np.abs(values).max() == 127


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["backbone", "sampler"])
def test_a_graph_computes_with_the_rounded_weights(bundle: Bundle, target: Target, name: str) -> None:
    """Not with those that were trained, and with nothing else rounded."""
    retained = load_network(bundle)
    feeds = next(make_cases(retained, name)).feeds
    expected = TorchEngine(retained, name)(feeds)
    with load_engine(bundle, name, target) as engine:
        got = engine(feeds)
    for output, array in expected.items():
        assert np.abs(got[output] - array).max() < 1e-3


def test_the_weights_file_shrinks_and_says_what_was_kept(network: LvmNet, bundle: Bundle) -> None:
    full = sum(tensor.numel() * 4 for tensor in network.state_dict().values())
    assert bundle.manifest.files["weights.safetensors"].bytes < 0.45 * full
    again, trained = load_network(bundle).state_dict(), network.state_dict()
    assert again.keys() == trained.keys()
    assert torch.equal(again["reader.embed.project.weight"], trained["reader.embed.project.weight"])
    assert not torch.equal(again["backbone.mix.weight"], trained["backbone.mix.weight"])
    for name, tensor in trained.items():
        assert (again[name] - tensor).abs().max() <= tensor.abs().max() / 127


def test_the_manifest_says_w8_and_how_far_it_strays(bundle: Bundle) -> None:
    for target in TARGETS:
        assert {one.precision for one in bundle.manifest.graphs[target].values()} == {"w8"}
    assert all(one.error is not None and 0 < one.error <= one.tolerance for one in bundle.manifest.parity)
