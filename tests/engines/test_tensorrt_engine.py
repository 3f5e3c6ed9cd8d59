"""TensorRT's engine against a strict fake of 8.6, 10 and 11, and against the real one where it is."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle
from engines.cuda import open_cuda
from engines.errors import CannotBuild, EngineFault
from engines.manifest import GraphName
from engines.select import choose, load_engine, load_engines
from engines.spec import Engine
from engines.tensorrt_versions import open_tensorrt
from export.parity.sample_inputs import (
    ACTIVITY,
    EMPTY,
    FULL,
    TIME,
    draw_reader_feeds,
    draw_sampler_feeds,
    draw_scenes,
)
from tests.support.fake_cuda import FakeGpu, install_pycuda
from tests.support.tensorrt_machine import (
    NAMES,
    REAL_PROBLEM,
    VERSIONS,
    Machine,
    make_machine,
    tensorrt_bundle,
)


@pytest.fixture(autouse=True)
def _forget_the_machine() -> Iterator[None]:
    yield
    open_cuda.cache_clear()
    open_tensorrt.cache_clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tensorrt_bundle(tmp_path_factory.mktemp("made"))


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    """A bundle of its own for each test: plans are kept beside it."""
    return Bundle.open(Path(shutil.copytree(made, tmp_path / "bundle", copy_function=os.link)))


@pytest.fixture(params=VERSIONS)
def machine(request, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(monkeypatch, tmp_path, bundle, request.param)


@pytest.fixture
def gpu(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """The fake GPU of a machine with TensorRT 10."""
    found = make_machine(monkeypatch, tmp_path, bundle, "10.3.0").gpu
    assert found is not None
    return found


def feeds(bundle: Bundle, name: GraphName, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What a device would send."""
    config, rng = bundle.manifest.network, np.random.default_rng(seed)
    if name == "backbone":
        return {"image": draw_scenes(batch, config.image_size, rng)}
    pool = rng.normal(size=(64, config.d_backbone)).astype(np.float32)
    if name == "sampler":
        return draw_sampler_feeds(config, pool, batch, rng)
    kinds = [ACTIVITY, TIME, FULL, EMPTY]
    return draw_reader_feeds(config, pool, [kinds[index % 4] for index in range(batch)], rng)


def assert_close(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype
        # -inf marks what is masked; infinities agree exactly.
        np.testing.assert_allclose(got[name], wanted[name], atol=2e-3, rtol=1e-3, err_msg=name)


@pytest.mark.skipif(REAL_PROBLEM is not None, reason=f"not run on the real TensorRT: {REAL_PROBLEM}")
def test_the_tests_here_run_on_the_real_tensorrt_too() -> None:
    assert "real" in VERSIONS


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_onnxruntime(machine: Machine, name: GraphName) -> None:
    """One row, a whole profile, rows that are padded, and more than any profile holds."""
    reference = load_engine(machine.bundle, name, "onnxruntime", threads=1)
    with machine.load(name) as engine:
        assert engine.backend.startswith("TensorRT ")
        order = lambda specs: sorted(specs, key=lambda spec: spec.name)  # noqa: E731
        assert order(engine.inputs) == order(reference.inputs)
        assert order(engine.outputs) == order(reference.outputs)
        for batch in (1, 3, 17) if name != "sampler" else (1, 2):
            given = feeds(machine.bundle, name, batch)
            assert_close(engine(given), reference(given))
    if machine.gpu is not None:
        assert machine.gpu.held == 0


def test_an_empty_batch_has_empty_answers(machine: Machine) -> None:
    with machine.load("backbone") as engine:
        size = machine.bundle.manifest.network.image_size
        tokens = engine({"image": np.zeros((0, size, size, 3), np.uint8)})["tokens"]
        assert tokens.shape == (0, 49, machine.bundle.manifest.network.d_backbone)


def test_outputs_belong_to_the_caller_and_feeds_stay_as_they_were(machine: Machine) -> None:
    with machine.load("sampler") as engine:
        given = [feeds(machine.bundle, "sampler", 1, seed) for seed in range(2)]
        before = {name: array.copy() for name, array in given[0].items()}
        first = engine(given[0])["score"]
        kept = first.copy()
        assert not np.array_equal(engine(given[1])["score"], kept)
        assert np.array_equal(first, kept)
        first[...] = 0
        assert np.array_equal(engine(given[0])["score"], kept)
        assert all(np.array_equal(before[name], given[0][name]) for name in before)


def test_several_threads_get_what_one_after_another_gets(machine: Machine) -> None:
    with machine.load("backbone") as engine:
        given = [feeds(machine.bundle, "backbone", 1 + seed % 3, seed) for seed in range(6)]
        alone = [engine(one)["tokens"] for one in given]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda one: engine(one)["tokens"], given * 2))
        for one, two in zip(alone * 2, together, strict=True):
            np.testing.assert_array_equal(one, two)


def test_wrong_feeds_are_refused_before_the_backend(machine: Machine) -> None:
    with machine.load("backbone") as engine, pytest.raises(ValueError, match="image"):
        engine({"image": np.zeros((1, 4, 4, 3), np.uint8)})


def test_a_closed_engine_gives_everything_back_and_says_that_it_is_closed(machine: Machine) -> None:
    engine = machine.load("reader")
    if machine.gpu is not None:
        assert machine.gpu.held > 0
    engine.close()
    engine.close()
    if machine.gpu is not None:
        assert machine.gpu.held == 0
    with pytest.raises(EngineFault, match="closed"):
        engine(feeds(machine.bundle, "reader", 1))


def test_an_engine_that_is_forgotten_gives_everything_back(bundle: Bundle, gpu: FakeGpu) -> None:
    engine = load_engine(bundle, "sampler", "tensorrt")
    assert gpu.held > 0
    del engine
    gc.collect()
    assert gpu.held == 0


@pytest.mark.parametrize(("name", "replayed"), [("backbone", 0), ("sampler", 3), ("reader", 3)])
def test_fixed_shapes_are_replayed_as_one_graph(
    bundle: Bundle, gpu: FakeGpu, name: GraphName, replayed: int
) -> None:
    with load_engine(bundle, name, "tensorrt") as engine:
        for seed in range(3):
            engine(feeds(bundle, name, 1, seed))
    assert gpu.launches == replayed


def test_a_plan_that_cannot_be_captured_runs_all_the_same(bundle: Bundle, gpu: FakeGpu) -> None:
    gpu.can_capture = False
    given = feeds(bundle, "sampler", 1)
    with load_engine(bundle, "sampler", "tensorrt") as engine:
        assert_close(engine(given), load_engine(bundle, "sampler", "onnxruntime", threads=1)(given))
    assert gpu.launches == 0 and gpu.held == 0


def test_pycuda_does_as_well_from_any_thread_but_without_graphs(
    bundle: Bundle, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_pycuda(monkeypatch, gpu)
    given = feeds(bundle, "reader", 2)
    wanted = load_engine(bundle, "reader", "onnxruntime", threads=1)(given)
    with load_engine(bundle, "reader", "tensorrt") as engine:
        assert open_cuda().package == "pycuda"
        with ThreadPoolExecutor(2) as pool:
            for got in pool.map(engine, [given, given]):
                assert_close(got, wanted)
    assert gpu.launches == 0 and gpu.held == 0


def starve_build(gpu: FakeGpu) -> None:
    gpu.out_of_memory_at_build = True


def starve_context(gpu: FakeGpu) -> None:
    gpu.free_bytes = 1000


@pytest.mark.parametrize("starve", [starve_build, starve_context])
def test_auto_goes_on_without_tensorrt_where_memory_is_short(
    bundle: Bundle, gpu: FakeGpu, starve: Callable[[FakeGpu], None], caplog: pytest.LogCaptureFixture
) -> None:
    starve(gpu)
    choice, engines = load_engines(bundle, "auto", threads=1)
    assert choice.backend != "tensorrt" and set(engines) == set(NAMES)
    assert "no tensorrt: " in choice.why and "memory" in choice.why
    assert "tensorrt cannot be used: " in caplog.text
    assert gpu.held == 0
    with pytest.raises(CannotBuild, match="memory") as caught:
        load_engines(bundle, "tensorrt")
    assert caught.value.exit_status == 4 and "\n" not in str(caught.value)


def test_engines_of_before_are_given_back_when_a_later_graph_cannot_be_built(
    bundle: Bundle, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    import engines.select as select

    inner = select.load_engine

    def load(bundle: Bundle, name: GraphName, backend: str, *, threads: int | None = None) -> Engine:
        gpu.out_of_memory_at_build = name == "reader"
        return inner(bundle, name, backend, threads=threads)

    monkeypatch.setattr(select, "load_engine", load)
    choice, loaded = load_engines(bundle, "auto", threads=1)
    assert gpu.builds == 2 and gpu.held == 0
    assert {engine.backend.split()[0] for engine in loaded.values()} == {choice.backend.split("-")[0]} or (
        choice.backend == "openvino"
    )


def test_auto_takes_tensorrt_where_it_is(bundle: Bundle, gpu: FakeGpu) -> None:
    assert choose("auto", bundle.manifest).backend == "tensorrt"
    choice, loaded = load_engines(bundle, "auto")
    assert choice.why == "the best there is" and {one.backend for one in loaded.values()} == {
        "TensorRT 10.3.0"
    }
    for engine in loaded.values():
        engine.close()
