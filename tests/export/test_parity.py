"""The gate: a graph that differs from its network is never shipped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.errors import GateFailed
from engines.fake import FakeEngine
from engines.manifest import GRAPHS, GraphName, Target
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.openvino_engine import OpenVinoEngine
from engines.spec import Array, Feeds
from export.bundle.presets import load_preset
from export.bundle.writer import write_bundle
from export.networks.model import LvmNet, TorchEngine, make_untrained
from export.networks.signatures import graph_inputs, graph_outputs
from export.onnx_graphs.build import lower, plain_attention, serialise, trace
from export.onnx_graphs.external_weights import WEIGHTS, read_byte_ranges, save_weights
from export.parity.check import check_graph, compare, make_cases
from export.parity.sample_inputs import MAX_TICK
from export.quantization.plan import Plan
from tests.support.export_models import card, small_network

TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"context": ("svd", "text", "region"), "queue": {"length": 3, "text_slots": 5, "regions": 4}},
    {"reader_candidates": 16, "order": True, "best_relevance": True},
    {"order": True, "grid": 14},
    {"backbone": "lcnet_035", "image_size": 224, "appearance": 6, "even_tokens": 1},
    {
        "object_fusion": "cell",
        "svd_rank": 0,
        "sampler_novelty": False,
        "sampler_cell_code": False,
        "clip_candidates": 98,
    },
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_graph_answers_like_torch_on_every_target(changes: dict[str, Any], tmp_path: Path) -> None:
    network = small_network(**changes)
    manifest = write_bundle(network, card(network), tmp_path / "bundle", Plan(targets=tuple(TARGETS)))
    assert {(one.target, one.graph) for one in manifest.parity} == {(t, g) for t in TARGETS for g in GRAPHS}
    worst = max(manifest.parity, key=lambda one: one.max_abs_error)
    assert worst.max_abs_error < 1e-4, worst
    assert all(one.feeds.count(",") >= 1 for one in manifest.parity), "several batch sizes each"


def test_a_graph_that_forgets_the_mask_fails_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmasked(query: Any, key: Any, value: Any, attn_mask: Any = None, **rest: Any) -> Any:
        return plain_attention(query, key, value)

    network = small_network()
    monkeypatch.setattr("export.onnx_graphs.build.select_attention", lambda target: unmasked)
    with pytest.raises(GateFailed) as raised:
        write_bundle(network, card(network), tmp_path / "bundle", Plan(targets=("onnxruntime",)))
    text = str(raised.value)
    assert text.startswith("onnxruntime sampler: output score differs from torch by 0."), text
    assert "at most 0.001 allowed" in text
    assert raised.value.exit_status == 3
    assert not list(tmp_path.iterdir())


def test_openvino_reads_weights_that_it_loads_late(tmp_path: Path) -> None:
    """Tensors of a quarter of a million entries are read by its compiler, not by its reader."""
    network = small_network(d_model=256, ffn=1024)
    save_weights(network, tmp_path / WEIGHTS)
    model = lower(trace(network, "sampler"), network.config, "sampler", "openvino")
    graph = serialise(model, read_byte_ranges(tmp_path / WEIGHTS))
    weights = (tmp_path / WEIGHTS).read_bytes()
    with OpenVinoEngine(graph, weights, weights_name=WEIGHTS, precision="fp32", threads=2) as engine:
        assert check_graph(network, engine, "sampler", "openvino").max_abs_error < 1e-4


@pytest.mark.slow
def test_the_published_swin_becomes_a_graph(tmp_path: Path) -> None:
    config = load_preset("edge").model_copy(
        update={"memory_tokens": 100, "clip_candidates": 50, "recency_tokens": 0}
    )
    network = make_untrained(config, 0)
    save_weights(network, tmp_path / WEIGHTS)
    model = lower(trace(network, "backbone"), config, "backbone", "onnxruntime")
    graph = serialise(model, read_byte_ranges(tmp_path / WEIGHTS))
    with OnnxRuntimeEngine(graph, (tmp_path / WEIGHTS).read_bytes(), threads=2) as engine:
        assert check_graph(network, engine, "backbone", "onnxruntime").max_abs_error < 1e-4


def broken(network: LvmNet, name: GraphName, output: str, value: float) -> FakeEngine:
    """The torch reference with one entry of one output replaced."""
    reference = TorchEngine(network, name)

    def run(feeds: Feeds) -> dict[str, Array]:
        outputs = reference(feeds)
        outputs[output].reshape(-1)[0] = value
        return outputs

    return FakeEngine(run, graph_inputs(network.config, name), graph_outputs(network.config, name))


def test_nan_fails_the_gate() -> None:
    network = small_network()
    with pytest.raises(GateFailed, match="openvino reader: output activity_logits differs from torch by inf"):
        check_graph(network, broken(network, "reader", "activity_logits", np.nan), "reader", "openvino")


def test_the_smallest_forbidden_error_fails_the_gate() -> None:
    network = small_network()
    engine = broken(network, "backbone", "tokens", 40.0)
    with pytest.raises(GateFailed, match="onnxruntime backbone: output tokens differs from torch by 4"):
        check_graph(network, engine, "backbone", "onnxruntime")


def test_what_a_caller_must_not_read_is_not_compared() -> None:
    network = small_network()
    given = [case for case in make_cases(network, "reader") if not case.feeds["memory_valid"][0, 0]]
    assert given
    engine = broken(network, "reader", "pointer_offsets", 99.0)
    differences = compare(TorchEngine(network, "reader"), engine, given[:1])
    assert max(difference.error for difference in differences) == 0


def test_cases_cover_every_kind_of_query_and_memory() -> None:
    network = small_network()
    feeds = [case.feeds for case in make_cases(network, "reader")]
    kinds = {
        (bool(o), bool(a))
        for feed in feeds
        for o, a in zip(feed["object_valid"], feed["activity_valid"], strict=True)
    }
    assert kinds == {(True, False), (False, True), (True, True)}
    filled = {float(row.mean()) for feed in feeds for row in feed["memory_valid"]}
    assert 0.0 in filled and 1.0 in filled and len(filled) > 2
    assert max(int(feed["memory_tick"].max()) for feed in feeds) > 0.99 * MAX_TICK
    assert len({len(feed["object_valid"]) for feed in feeds}) > 1
    assert all(np.any(feed["query_valid"], axis=1).all() for feed in feeds)


def test_equal_networks_are_compared_on_equal_cases() -> None:
    for one, two in zip(
        make_cases(small_network(), "sampler"), make_cases(small_network(), "sampler"), strict=True
    ):
        assert one.words == two.words
        for key in one.feeds:
            np.testing.assert_array_equal(one.feeds[key], two.feeds[key])
