"""The backends behind one contract, with the graphs that ship: checked, copied, called from any thread."""

import importlib.util
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_runtime.config.paths import default_bundle
from engines.bundle import Bundle, pack
from engines.errors import BundleError
from engines.select import load_engine
from engines.spec import Engine, TensorSpec
from tests.support.bundles import copy_bundle

NAMES = ("backbone", "sampler", "reader")
BACKENDS = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not here"),
    ),
]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(default_bundle())


@pytest.fixture(scope="module", params=BACKENDS)
def engines(request, bundle):
    return {name: load_engine(bundle, name, request.param, threads=1) for name in NAMES}


def _feeds(engine: Engine, seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {spec.name: _values(spec, rng, batch) for spec in engine.inputs}


def _values(spec: TensorSpec, rng: np.random.Generator, batch: int) -> np.ndarray:
    shape = tuple(size if isinstance(size, int) else batch for size in spec.shape)
    if spec.dtype == "bool":
        values = np.ones(shape)
    elif spec.dtype == "float32":
        values = rng.normal(size=shape)
    else:
        values = rng.integers(0, 49, shape)
    return values.astype(spec.dtype)


def _equal(one, two) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_the_promised_names_types_and_shapes(engines, name):
    engine = engines[name]
    outputs = engine(_feeds(engine, 0, batch=2))
    assert set(outputs) == {spec.name for spec in engine.outputs}
    for spec in engine.outputs:
        assert outputs[spec.name].dtype.name == spec.dtype
        assert outputs[spec.name].shape == (2, *spec.shape[1:]) and np.isfinite(outputs[spec.name]).all()


def test_openvino_keeps_as_many_requests_as_ran_at_once_however_many_threads_ask(bundle):
    """Each request has memory of its own, and an HTTP door asks from forty threads."""
    pytest.importorskip("openvino")
    engine = load_engine(bundle, "sampler", "openvino", threads=1)
    feeds = _feeds(engine, 1)
    for _ in range(5):
        one = threading.Thread(target=lambda: engine(feeds))
        one.start()
        one.join()
    assert len(engine._free_requests) == 1
    engine.close()


@pytest.mark.parametrize("name", NAMES)
def test_several_threads_get_what_one_after_another_gets(engines, name):
    engine = engines[name]
    feeds = [_feeds(engine, seed) for seed in range(8)]
    alone = [engine(one) for one in feeds]
    assert not _equal(alone[0], alone[1])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine, feeds * 2))
    assert all(_equal(one, two) for one, two in zip(alone * 2, together, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_belong_to_the_caller(engines, name):
    engine = engines[name]
    first = engine(_feeds(engine, 0))
    kept = {key: array.copy() for key, array in first.items()}
    engine(_feeds(engine, 1))
    assert _equal(first, kept)
    for array in first.values():
        array[...] = 0  # writable, and the next call does not see it
    assert _equal(engine(_feeds(engine, 0)), kept)


def test_feeds_are_left_as_they_were(engines):
    engine = engines["sampler"]
    feeds = _feeds(engine, 0)
    kept = {name: array.copy() for name, array in feeds.items()}
    engine(feeds)
    assert _equal(feeds, kept)


def test_feeds_that_are_views_count_as_their_values(engines):
    engine = engines["backbone"]
    image = _feeds(engine, 0)["image"]
    mirrored = image[:, :, ::-1]
    assert _equal(engine({"image": mirrored}), engine({"image": np.ascontiguousarray(mirrored)}))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda f: f.pop("cell"), r"missing \['cell'\]"),
        (lambda f: f.update(extra=f["cell"]), r"unknown \['extra'\]"),
        (lambda f: f.update(cell=f["cell"].astype(np.int64)), "cell: int32"),
        (lambda f: f.update(cell=f["cell"][0]), "cell: int32"),
        (lambda f: f.update(cell=f["cell"][:, 1:]), "cell: int32"),
        (lambda f: f.update(cell=f["cell"].tolist()), "got list"),
        (lambda f: f.update(cell=np.repeat(f["cell"], 2, 0)), r"cell: int32"),
    ],
)
def test_wrong_feeds_are_refused_before_the_backend_sees_them(engines, change, says, monkeypatch):
    engine = engines["sampler"]
    feeds = _feeds(engine, 0)
    change(feeds)
    monkeypatch.setattr(type(engine), "_run", lambda self, feeds: pytest.fail("the backend was called"))
    with pytest.raises(ValueError, match=says):
        engine(feeds)


@pytest.mark.parametrize("name", NAMES)
def test_both_backends_agree_on_every_graph(bundle, name):
    pytest.importorskip("openvino")
    one, two = (load_engine(bundle, name, backend, threads=1) for backend in ("onnxruntime", "openvino"))
    feeds = _feeds(one, 3, batch=2)
    first, second = one(feeds), two(feeds)
    for key in first:
        np.testing.assert_allclose(second[key], first[key], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_graphs_come_from_memory_so_the_files_may_go_once_loaded(tmp_path, backend):
    folder = copy_bundle(tmp_path)
    pack(folder, tmp_path / "one.lvm")
    from_folder = load_engine(Bundle.open(folder), "backbone", backend, threads=1)
    from_archive = load_engine(Bundle.open(tmp_path / "one.lvm"), "backbone", backend, threads=1)
    for file in folder.rglob("*.*"):
        file.unlink()
    (tmp_path / "one.lvm").unlink()
    feeds = _feeds(from_folder, 0)
    assert _equal(from_folder(feeds), from_archive(feeds))


def _onnxruntime(graph, weights):
    from engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(graph, weights, threads=1)


def _openvino(graph, weights):
    pytest.importorskip("openvino")
    from engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(graph, weights, weights_name="weights.safetensors", precision="fp32", threads=1)


@pytest.mark.parametrize("load", [_onnxruntime, _openvino])
@pytest.mark.parametrize(
    "graph", [b"", b"no graph at all", bytes(1000), "cut"], ids=["empty", "words", "zeros", "cut"]
)
def test_a_graph_that_is_none_is_one_sentence(bundle, load, graph):
    data, _ = bundle.graph("onnxruntime", "backbone")
    with pytest.raises(BundleError, match="cannot load the graph: .") as caught:
        load(bytes(data[:5000]) if graph == "cut" else graph, bundle.weights())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [_onnxruntime, _openvino])
@pytest.mark.parametrize(
    "weights",
    [b"", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]", "cut", None],
    ids=["empty", "no header", "a list", "cut", "none at all"],
)
def test_weights_that_are_none_are_one_sentence(bundle, load, weights):
    data, _ = bundle.graph("onnxruntime", "backbone")
    whole = bytes(bundle.weights())
    with pytest.raises(BundleError) as caught:
        load(bytes(data), whole[: len(whole) // 20] if weights == "cut" else weights)
    assert "\n" not in str(caught.value)


_GOES_BY_SIGNAL = """
import gc, os, signal, sys
from engines.bundle import Bundle
from engines.select import load_engine
from edge_runtime.config.paths import default_bundle

bundle = Bundle.open(default_bundle())
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
engines = [load_engine(bundle, "sampler", sys.argv[1], threads=1) for _ in range(3)]
while engines:
    del engines[0]  # the oldest first, as an engine is replaced by another
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_signals_are_handled_after_engines_are_gone(backend):
    """OpenVINO left the thread a stack for signals that was gone: SIGTERM or a child's end were fatal."""
    command = [sys.executable, "-X", "faulthandler", "-c", _GOES_BY_SIGNAL, backend]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout.split()) == (0, ["handled"] * 3), run.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_keeps_nothing_in_a_home_folder_to_tell_its_maker(backend, tmp_path):
    code = (
        "import sys; from engines.select import load_engine; from engines.bundle import Bundle; "
        "from edge_runtime.config.paths import default_bundle; "
        f"load_engine(Bundle.open(default_bundle()), 'sampler', {backend!r}, threads=1); "
        "print([name for name, module in sys.modules.items() if module and 'openvino_telemetry' in name])"
    )
    told = ("CI", "TF_BUILD", "JENKINS_URL")  # under any of these OpenVINO says nothing by itself
    environment = {name: value for name, value in os.environ.items() if name not in told}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stdout + run.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no folder in RAM here")
def test_openvino_reads_its_weights_from_ram_and_not_from_the_disk(bundle, monkeypatch):
    openvino_engine = pytest.importorskip("engines.openvino_engine", reason="OpenVINO is not here")
    folders = []
    real = openvino_engine.tempfile.TemporaryDirectory
    monkeypatch.setattr(
        openvino_engine.tempfile,
        "TemporaryDirectory",
        lambda **options: folders.append(options["dir"]) or real(**options),
    )
    load_engine(bundle, "sampler", "openvino", threads=1).close()
    assert [str(folder) for folder in folders] == ["/dev/shm"]


def test_a_folder_in_ram_that_is_too_small_or_missing_is_not_used(tmp_path):
    find_memory_folder = pytest.importorskip("engines.openvino_engine").find_memory_folder
    assert find_memory_folder(1000, tmp_path) == tmp_path
    assert find_memory_folder(1 << 60, tmp_path) is None
    assert find_memory_folder(1000, tmp_path / "missing") is None
