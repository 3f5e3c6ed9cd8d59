"""Which backend runs, and the words for why. What this machine has is made up here."""

import importlib.util

import pytest

import engines.select as select
from edge_runtime.config.paths import default_bundle
from engines.bundle import Bundle
from engines.errors import LvmError, Unavailable
from engines.onnxruntime_engine import OnnxRuntimeEngine


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open(default_bundle())


@pytest.fixture
def machine(monkeypatch):
    """Sets which optional backends the machine has."""

    def has(*, cuda: bool, openvino: bool) -> None:
        names = ("CUDAExecutionProvider",) * cuda + ("CPUExecutionProvider",)
        monkeypatch.setattr(select, "providers", lambda: names)
        found = importlib.util.find_spec
        there = {"openvino": openvino or None, "tensorrt": None}
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: there[name] if name in there else found(name)
        )

    return has


@pytest.mark.parametrize(
    "cuda, openvino, wanted",
    [
        (True, True, "onnxruntime-cuda"),
        (True, False, "onnxruntime-cuda"),
        (False, True, "openvino"),
        (False, False, "onnxruntime"),
    ],
)
def test_auto_takes_the_best_and_says_why_not_a_better_one(machine, bundle, cuda, openvino, wanted):
    machine(cuda=cuda, openvino=openvino)
    choice = select.choose("auto", bundle.manifest)
    assert choice.backend == wanted
    better = select.BACKENDS[: select.BACKENDS.index(wanted)]
    assert "tensorrt" in better and all(f"no {name}: " in choice.why for name in better)
    assert f"no {wanted}:" not in choice.why


def test_what_there_is_is_listed_best_first(machine, bundle):
    machine(cuda=False, openvino=False)
    reasons = select.find_backend_problems(bundle.manifest)
    assert list(reasons) == ["tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime"]
    assert reasons["onnxruntime"] is None and "pip install" in reasons["openvino"]


def test_a_backend_that_the_bundle_has_no_graphs_for_is_passed_over(machine, bundle):
    machine(cuda=False, openvino=True)
    graphs = {"onnxruntime": bundle.manifest.graphs["onnxruntime"]}
    manifest = bundle.manifest.model_copy(update={"graphs": graphs})
    choice = select.choose("auto", manifest)
    assert choice.backend == "onnxruntime" and "the bundle has no graphs for openvino" in choice.why


def test_a_bundle_without_graphs_runs_nowhere(machine, bundle):
    machine(cuda=True, openvino=True)
    with pytest.raises(Unavailable, match="no backend can run this bundle here"):
        select.choose("auto", bundle.manifest.model_copy(update={"graphs": {}}))


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime-cuda", "openvino"])
def test_a_forced_backend_that_is_absent_is_missing_and_never_replaced(machine, bundle, name):
    machine(cuda=False, openvino=False)
    with pytest.raises(Unavailable, match=f"backend {name} cannot run here: ") as caught:
        select.choose(name, bundle.manifest)
    assert caught.value.exit_status == 4


def test_a_forced_backend_that_is_there_is_taken(machine, bundle):
    machine(cuda=True, openvino=True)
    assert select.choose("onnxruntime", bundle.manifest) == select.Choice("onnxruntime", "asked for")


@pytest.mark.parametrize("name", ["", "AUTO", "cuda", "TensorRT"])
def test_an_unknown_backend_is_wrong_use(bundle, name):
    with pytest.raises(
        LvmError, match="must be auto or one of tensorrt, onnxruntime-cuda, openvino, onnxruntime"
    ) as caught:
        select.choose(name, bundle.manifest)
    assert caught.value.exit_status == 2


def test_an_engine_says_what_runs_it(bundle):
    engine = select.load_engine(bundle, "backbone", "onnxruntime")
    assert isinstance(engine, OnnxRuntimeEngine) and engine.backend == "onnxruntime CPU"


def test_usable_cores_are_at_least_one():
    assert select.usable_cores() >= 1
