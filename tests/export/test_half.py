"""Half precision in a graph: what becomes fp16, what stays, and what that costs."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import GRAPHS
from engines.select import load_engine
from export.bundle.writer import load_network, write_bundle
from export.networks.model import LvmNet, TorchEngine
from export.onnx_graphs.build import find_parameters, lower, trace
from export.onnx_graphs.fp16 import HALF, convert_to_fp16
from export.parity.sample_inputs import draw_scenes
from export.quantization.plan import Choice, Plan
from tests.support.export_models import card, small_network

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


@pytest.fixture(scope="module")
def network() -> LvmNet:
    return small_network()


@pytest.fixture(scope="module")
def programs(network: LvmNet) -> dict[str, Any]:
    return {name: trace(network, name) for name in GRAPHS}


@pytest.fixture
def lowered(network: LvmNet, programs: dict[str, Any]) -> Any:
    return lambda name, target="openvino": lower(programs[name], network.config, name, target)


@pytest.fixture(scope="module")
def bundle(network: LvmNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "bundle"
    write_bundle(network, card(network), path, Plan("fp16", ("onnxruntime", "openvino")))
    return path


def types(model: Any, kind: str) -> Counter[str]:
    return Counter(str(node.outputs[0].dtype) for node in model.graph if node.op_type == kind)


@pytest.mark.parametrize("name", GRAPHS)
def test_products_are_half_and_islands_full(lowered: Any, name: str) -> None:
    model = lowered(name)
    products = sum(node.op_type in ("Conv", "MatMul", "Gemm") for node in model.graph)
    convert_to_fp16(model)
    left = sum(types(model, kind)["FLOAT"] for kind in ("Conv", "MatMul", "Gemm"))
    assert left < products / 2, (left, products)
    for island in ("LayerNormalization", "Softmax", "Sin", "Cos", "Where", "Sigmoid"):
        assert not types(model, island)["FLOAT16"], island
    assert all(value.dtype != FLOAT16 for value in (*model.graph.inputs, *model.graph.outputs))


def test_what_follows_a_product_does_not_go_back_and_forth(lowered: Any) -> None:
    """Nine layers of convolution, normalisation and ReLU in one stretch; means are made in fp32."""
    model = lowered("backbone")
    convert_to_fp16(model)
    kinds = Counter(node.op_type for node in model.graph)
    assert types(model, "BatchNormalization") == {"FLOAT16": 9} and types(model, "Relu")["FLOAT"] == 0
    assert kinds["Cast"] <= 4 + 2 * kinds["AveragePool"], kinds


def test_scores_are_made_in_full_precision(lowered: Any) -> None:
    model = lowered("sampler")
    convert_to_fp16(model)
    node = model.graph.outputs[0].producer()
    while node.op_type not in ("MatMul", "Gemm"):
        node = next(value.producer() for value in node.inputs if value is not None and value.producer())
    assert node.outputs[0].dtype == FLOAT


def test_parameters_that_are_kept_stay_as_they_are(lowered: Any) -> None:
    model = lowered("sampler")
    convert_to_fp16(model)
    halved = {name.removesuffix(HALF) for name in find_parameters(model) if name.endswith(HALF)}
    assert "sampler.layers.0.attention.query.weight" in halved, "also those that are transposed first"
    retained = lowered("sampler")
    pattern = next(iter(sorted(halved)))
    convert_to_fp16(retained, [pattern])
    assert pattern in find_parameters(retained) and pattern + HALF not in find_parameters(retained)
    assert {name + HALF for name in halved - {pattern}} <= set(find_parameters(retained)) | {pattern + HALF}


def test_a_weight_that_half_precision_cannot_hold_is_refused(programs: dict[str, Any]) -> None:
    network = small_network()
    with torch.no_grad():
        network.backbone.get_parameter("stages.0.widen.weight")[0, 0, 0, 0] = 1e5
    model = lower(trace(network, "backbone"), network.config, "backbone", "openvino")
    with pytest.raises(
        LvmError, match=r"backbone.stages.0.widen.weight must be at most 65504 .* --keep-fp32"
    ):
        convert_to_fp16(model)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_half_bundle_answers_nearly_like_its_network(network: LvmNet, bundle: Path, target: str) -> None:
    image = draw_scenes(2, 56, np.random.default_rng(1))
    expected = TorchEngine(network, "backbone")({"image": image})["tokens"]
    with load_engine(Bundle.open(bundle), "backbone", target) as engine:
        got = engine({"image": image})["tokens"]
    assert 0 < np.abs(got - expected).max() < 0.05


def test_a_half_bundle_is_half_as_large_and_says_what_it_is(network: LvmNet, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert manifest.files["weights.safetensors"].bytes < 2.5 * parameters
    records = [record for graphs in manifest.graphs.values() for record in graphs.values()]
    assert {(record.precision, record.why) for record in records} == {("fp16", "asked for")}
    assert all(record.cosine is not None and record.cosine > 0.999 for record in manifest.parity)


def test_a_network_can_be_made_of_a_half_bundle_again(network: LvmNet, bundle: Path) -> None:
    again = load_network(Bundle.open(bundle)).state_dict()
    for name, tensor in network.state_dict().items():
        assert again[name].dtype == tensor.dtype
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-6)


def test_a_pattern_that_fits_nothing_is_named(network: LvmNet, tmp_path: Path) -> None:
    plan = Plan("fp16", ("onnxruntime",), keep=("reader.haeds.*",))
    with pytest.raises(LvmError, match=r"--keep-fp32 reader.haeds.\* fits no parameter"):
        write_bundle(network, card(network), tmp_path / "bundle", plan)
    assert not list(tmp_path.iterdir())


def test_a_target_without_the_precision_keeps_fp32_and_says_why() -> None:
    plan = Plan("bf16", ("onnxruntime", "openvino"))
    choices = plan.choices()
    assert choices["openvino", "sampler"].precision == "bf16"
    assert choices["openvino", "reader"] == Choice("fp32", "ticks need more than the eight bits of bf16")
    assert choices["onnxruntime", "sampler"] == Choice("fp32", "onnxruntime has no bf16")
    with pytest.raises(LvmError, match="onnxruntime has no bf16; it knows fp32, fp16"):
        Plan("bf16", ("onnxruntime", "openvino"), explicit=True)
    with pytest.raises(LvmError, match="onnxruntime has no bf16"):
        Plan("bf16", ("onnxruntime",))


def test_a_graph_in_bf16_is_the_fp32_graph(network: LvmNet, tmp_path: Path) -> None:
    manifest = write_bundle(network, card(network), tmp_path / "bundle", Plan("bf16", ("openvino",)))
    got = {name: record.precision for name, record in manifest.graphs["openvino"].items()}
    assert got == {"backbone": "bf16", "sampler": "bf16", "reader": "fp32"}
    model = onnx.load(tmp_path / "bundle/graphs/openvino/sampler.onnx", load_external_data=False)
    assert not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
