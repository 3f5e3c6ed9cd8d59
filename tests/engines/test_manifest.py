"""A manifest is understood whole or refused."""

import json
import re

import pytest
from pydantic import ValidationError

from edge_runtime.config.paths import default_bundle
from engines.manifest import Manifest
from export.training.data.world_pool import WORLD_VERSION
from export.training.recipe import Recipe


@pytest.fixture(scope="module")
def shipped() -> str:
    return (default_bundle() / "manifest.json").read_text()


def _problem(text: str, change) -> str:
    data = json.loads(text)
    change(data)
    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate_json(json.dumps(data))
    first = caught.value.errors()[0]
    return ".".join(map(str, first["loc"])) + ": " + first["msg"]


def test_a_manifest_that_is_written_and_read_is_the_same(shipped):
    manifest = Manifest.model_validate_json(shipped)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda d: d.update(colour="red"), "colour: Extra"),
        (lambda d: d["network"].update(colour="red"), "network.colour: Extra"),
        (lambda d: d["files"]["weights.safetensors"].update(md5="0"), "md5: Extra"),
        (lambda d: d.update(format_version=2), "format_version"),
        (lambda d: d.update(format_version="1"), "format_version"),
        (lambda d: d.pop("format_version"), "format_version"),
        (lambda d: d["network"].update(heads=3), "multiple of heads=3"),
        (lambda d: d["network"].update(d_model=130, heads=2), "multiple of 4"),
        (lambda d: d["network"].update(clip_candidates=30 * 49 + 1), "clip_candidates must be at most 1470"),
        (lambda d: d["network"].update(recency_tokens=30 * 49 + 1), "recency_tokens must be at most 1470"),
        (lambda d: d["network"].update(svd_rank=0), "without svd_rank nothing can prefilter a clip"),
        (lambda d: d["network"].update(memory_tokens=0), "memory_tokens"),
        (lambda d: d["network"].update(memory_tokens=10**9), "memory_tokens"),
        (lambda d: d["network"].update(horizon_s=float("inf")), "horizon_s"),
        (lambda d: d["network"].update(tick_base=float("nan")), "tick_base"),
        (lambda d: d["network"].update(sample_fps=5.1), "sample_fps"),
        (lambda d: d.update(thresholds={"interpolate_s": float("inf")}), "interpolate_s"),
        (lambda d: d["classes"].pop(), "classes must be 10, got 9"),
        (lambda d: d["classes"].__setitem__(1, d["classes"][0]), "class names must differ"),
        (lambda d: d["graphs"]["openvino"].pop("reader"), "graphs.openvino must be backbone, sampler"),
        (lambda d: d["graphs"].update(coreml=d["graphs"]["openvino"]), "graphs.coreml"),
        (lambda d: d["files"].pop("weights.safetensors"), r"files lacks the hashes of"),
        (lambda d: d["files"]["weights.safetensors"].update(sha256="ABC"), "sha256"),
        (lambda d: d["files"]["weights.safetensors"].update(bytes=-1), "bytes"),
        (lambda d: d["graphs"]["openvino"]["reader"].update(precision="fp8"), "precision"),
    ],
)
def test_what_is_wrong_is_named(shipped, change, says):
    assert says in _problem(shipped, change)


def test_sizes_of_sampler_and_reader_are_memory_and_what_comes_beside_it(shipped):
    network = Manifest.model_validate_json(shipped).network
    assert network.sampler_tokens == 2352 + 441 and network.reader_tokens == 2352 + 147


def test_the_shipped_manifest_says_how_it_was_learned_and_what_came_of_it(shipped):
    training = Manifest.model_validate_json(shipped).training
    network = json.loads(shipped)["network"]
    assert Recipe.model_validate(json.loads(training.recipe) | {"network": network, "data": {}}).lvm
    assert json.loads(training.data)["worlds"] == WORLD_VERSION, "made of worlds that can still be drawn"
    assert not re.search(r"/(work|home|root|tmp)/", shipped)
    cells = {
        f"test.{a}.{b}.recall_1x" for a in ("activity", "object", "time") for b in ("short", "medium", "long")
    }
    assert cells <= training.results.keys() and len(training.held_out) >= 10
