"""Weights files: what they must hold, and what came later."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from engines.errors import BundleError
from export.networks.model import LvmNet
from export.onnx_graphs.external_weights import load_weights, save_weights
from export.parity.sample_inputs import QueryShape, draw_reader_feeds
from tests.support.export_models import small_network

OUTLINE = "reader.heads.places.outline."


@pytest.fixture(scope="module")
def network() -> LvmNet:
    return small_network()


def without(network: LvmNet, path: Path, *prefixes: str) -> bytes:
    save_weights(network, path)
    retained = {
        name: tensor
        for name, tensor in safetensors.torch.load_file(path).items()
        if not name.startswith(prefixes)
    }
    return safetensors.torch.save(retained)


def told(network: LvmNet) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((50, network.config.d_backbone)).astype(np.float32)
    feeds = draw_reader_feeds(
        network.config, pool, [QueryShape(filled=0.7, object=True, activity=True)] * 2, rng
    )
    with torch.inference_mode():
        return network.reader(**{name: torch.from_numpy(array) for name, array in feeds.items()})


def test_a_network_of_before_answers_as_it_did(network: LvmNet, tmp_path: Path) -> None:
    loaded = load_weights(network.config, without(network, tmp_path / "w", OUTLINE), "old")
    for one, other in zip(told(loaded), told(network), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_half_an_outline_is_refused(network: LvmNet, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"weights of torn .* 1 tensors .*outline\.2\.bias"):
        load_weights(network.config, without(network, tmp_path / "w", OUTLINE + "2.bias"), "torn")


def test_what_else_is_missing_is_refused(network: LvmNet, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"1 tensors .*reader\.query"):
        load_weights(network.config, without(network, tmp_path / "w", "reader.query"), "torn")
