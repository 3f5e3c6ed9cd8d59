"""ONNX graphs: where their weights lie, how attention is spelt, what they cost."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest

from engines.manifest import GRAPHS, GraphName, Target
from export.networks.model import LvmNet
from export.networks.signatures import graph_inputs, graph_outputs
from export.onnx_graphs.build import lower, serialise, trace
from export.onnx_graphs.external_weights import WEIGHTS, read_byte_ranges, save_weights
from tests.support.export_models import small_network

TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino", "tensorrt")


@pytest.fixture(scope="module")
def network() -> LvmNet:
    return small_network()


@pytest.fixture(scope="module")
def weights(network: LvmNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / WEIGHTS
    save_weights(network, path)
    return path


@pytest.fixture(scope="module")
def graphs(network: LvmNet, weights: Path) -> dict[tuple[GraphName, Target], onnx.ModelProto]:
    made = {}
    for name in GRAPHS:
        program = trace(network, name)
        for target in TARGETS:
            data = serialise(lower(program, network.config, name, target), read_byte_ranges(weights))
            made[name, target] = onnx.load_model_from_string(data)
    return made


def test_graphs_have_the_names_and_shapes_of_the_contract(network: LvmNet, graphs: Any) -> None:
    for (name, _), model in graphs.items():
        for specs, values in (
            (graph_inputs(network.config, name), model.graph.input),
            (graph_outputs(network.config, name), model.graph.output),
        ):
            shapes = {
                value.name: tuple(d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim)
                for value in values
            }
            assert shapes == {spec.name: spec.shape for spec in specs}


def test_parameters_are_torchs_bytes_in_the_shared_file(network: LvmNet, weights: Path, graphs: Any) -> None:
    state = network.state_dict()
    raw = weights.read_bytes()
    for (name, _), model in graphs.items():
        inline = 0
        for tensor in model.graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                inline += tensor.ByteSize()
                continue
            where = {entry.key: entry.value for entry in tensor.external_data}
            assert where["location"] == WEIGHTS
            start, length = int(where["offset"]), int(where["length"])
            expected = state[tensor.name].numpy()
            assert tuple(tensor.dims) == expected.shape
            assert raw[start : start + length] == expected.tobytes(), tensor.name
        external = sum(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
        assert external == len(list(network.part(name).parameters())) + 2 * (9 if name == "backbone" else 0)
        assert inline < 40_000, (name, inline)


def test_attention_is_one_operator_in_onnxruntime_and_plain_elsewhere(graphs: Any) -> None:
    fused = Counter(node.op_type for node in graphs["reader", "onnxruntime"].graph.node)
    plain = Counter(node.op_type for node in graphs["reader", "openvino"].graph.node)
    # Encoder 1, decoder self-attention 2, first cross-attention; the last one shows its weights. And the
    # tokens' shares of each step's box.
    assert (fused["MultiHeadAttention"], fused["Softmax"]) == (4, 2)
    assert (plain["MultiHeadAttention"], plain["Softmax"]) == (0, 6)
    assert {o.domain: o.version for o in graphs["reader", "openvino"].opset_import} == {"": 20}


def test_tensorrt_gets_plain_attention_in_opset_17(graphs: Any) -> None:
    for name in GRAPHS:
        model = graphs[name, "tensorrt"]
        assert {o.domain: o.version for o in model.opset_import} == {"": 17}
    assert Counter(node.op_type for node in graphs["reader", "tensorrt"].graph.node)["Softmax"] == 6


def test_graphs_tell_nothing_of_the_machine_that_made_them(graphs: Any) -> None:
    for model in graphs.values():
        text = model.SerializeToString()
        assert b".py" not in text and str(Path.home()).encode() not in text
        assert not model.metadata_props


def test_equal_networks_give_equal_bytes(network: LvmNet, weights: Path, graphs: Any) -> None:
    again, other = (
        serialise(
            lower(trace(one, "sampler"), one.config, "sampler", "onnxruntime"), read_byte_ranges(weights)
        )
        for one in (network, small_network())
    )
    assert again == other
    assert onnx.load_model_from_string(again) == graphs["sampler", "onnxruntime"]


def test_switched_off_inputs_are_absent() -> None:
    config = small_network(
        svd_rank=0, sampler_novelty=False, sampler_cell_code=False, clip_candidates=98
    ).config
    assert [spec.name for spec in graph_inputs(config, "sampler")] == ["features", "valid"]
    assert not any("svd" in spec.name for spec in graph_inputs(config, "reader"))


MEASURE = """
import sys, numpy as np, psutil
from pathlib import Path
from engines.onnxruntime_engine import OnnxRuntimeEngine
folder = Path(sys.argv[1])
graph, weights = (folder / "g.onnx").read_bytes(), (folder / "weights.safetensors").read_bytes()
engine = OnnxRuntimeEngine(graph, weights, threads=2)
rng = np.random.default_rng(0)
n = engine.inputs[0].shape[1]
feeds = {"features": rng.normal(size=(1, n, 24)).astype(np.float32), "valid": rng.random((1, n)) < 0.8,
         "cell": np.zeros((1, n), np.int32), "novelty": np.zeros((1, n), np.float32)}
before = psutil.Process().memory_info().rss
engine(feeds)
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_onnxruntime_never_materialises_the_scores_of_masked_candidates(tmp_path: Path) -> None:
    """4,000 x 4,000 scores of four heads would be 256 MB."""
    import subprocess
    import sys

    network = small_network(memory_tokens=3970)
    save_weights(network, tmp_path / WEIGHTS)
    model = lower(trace(network, "sampler"), network.config, "sampler", "onnxruntime")
    data = serialise(model, read_byte_ranges(tmp_path / WEIGHTS))
    (tmp_path / "g.onnx").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60e6, done.stdout
