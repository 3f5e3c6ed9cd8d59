"""What each version of TensorRT is asked for, and which plans are kept, against a strict fake of each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.cli.main import main
from engines.bundle import Bundle
from engines.cuda import Gpu, driver_problem, open_cuda
from engines.errors import BundleError, CannotBuild, Unavailable
from engines.select import choose, find_backend_problems, load_engines
from engines.tensorrt_load import load_tensorrt
from engines.tensorrt_versions import open_tensorrt
from tests.support.bundles import edit_manifest, replace_file
from tests.support.fake_cuda import FakeDriver, install_driver
from tests.support.fake_tensorrt import install_tensorrt, plan_head
from tests.support.tensorrt_machine import NAMES, VERSIONS, fake_machine, make_machine, tensorrt_bundle


@pytest.fixture(autouse=True)
def _forget_the_machine() -> Iterator[None]:
    yield
    open_cuda.cache_clear()
    open_tensorrt.cache_clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle that says of itself that it has each precision; its graphs are fp32 all the same."""
    return {
        precision: tensorrt_bundle(tmp_path_factory.mktemp(precision), precision)
        for precision in ("fp32", "fp16", "bf16", "int8")
    }


@pytest.fixture
def place(made: dict[str, Path], tmp_path: Path):
    def put(precision: str = "fp32") -> Path:
        return Path(shutil.copytree(made[precision], tmp_path / "bundle", copy_function=os.link))

    return put


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [
        ("8.6.1", "fp32", []),
        ("8.6.1", "fp16", ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
        ("8.6.1", "int8", ["INT8"]),
        ("10.3.0", "fp32", []),
        ("10.3.0", "fp16", []),
        ("10.3.0", "int8", []),
        ("11.4.1", "fp16", []),
        ("11.4.1", "bf16", []),
    ],
)
def test_each_version_is_asked_to_keep_the_types_of_the_graph(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, precision: str, flags: list[str]
) -> None:
    fake_machine(monkeypatch, tmp_path, version)
    head = plan_head(load_tensorrt(Bundle.open(place(precision)), "sampler").plan.data)
    assert head["flags"] == flags  # TF32 is never among them: fp32 means fp32
    # Softmax and all else that the graph has in fp32 is pinned where a flag would let it be less.
    assert set(head["pinned"].values()) == ({"FLOAT"} if "FP16" in flags else set())


def test_tensorrt_8_has_no_bf16(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_machine(monkeypatch, tmp_path, "8.6.1")
    with pytest.raises(CannotBuild, match="TensorRT 8.6.1 has no bf16; export with --precision fp16"):
        load_tensorrt(Bundle.open(place("bf16")), "sampler")


def test_profiles_workspace_and_timings_reach_the_builder(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = place()
    fake_machine(monkeypatch, tmp_path, "10.3.0")
    opened = Bundle.open(bundle)
    first = load_tensorrt(opened, "backbone", workspace_bytes=1 << 28)
    head = plan_head(first.plan.data)
    assert head["workspace"] == 1 << 28 and not head["knew_timings"]
    assert [[shape[0] for shape in one["image"]] for one in head["profiles"]] == [[1, 8, 16]]
    second = plan_head(load_tensorrt(opened, "reader").plan.data)
    assert second["workspace"] is None and second["knew_timings"]
    assert [[shape[0] for shape in one["activity"]] for one in second["profiles"]] == [
        [n] * 3 for n in (1, 4, 16)
    ]


def test_damaged_timings_are_not_given_to_tensorrt(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    opened = Bundle.open(place())
    load_tensorrt(opened, "backbone")
    (timings,) = (tmp_path / "bundle.plans").glob("timings-*")
    timings.write_bytes(timings.read_bytes()[:-3] + b"abc")
    head = plan_head(load_tensorrt(opened, "sampler").plan.data)
    assert not head["knew_timings"] and gpu.builds == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("content", [b"", b"no graph at all", "cut"], ids=["empty", "words", "cut"])
def test_a_graph_that_is_none_is_one_sentence(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, content: bytes | str
) -> None:
    bundle = place()
    name = "graphs/tensorrt/sampler.onnx"
    data = (bundle / name).read_bytes()
    (bundle / name).unlink()  # a hard link: the other tests' file must stay as it is
    (bundle / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
    manifest = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").write_bytes(manifest)
    replace_file(bundle, name, data[:5000] if content == "cut" else content)  # type: ignore[arg-type]
    machine = make_machine(monkeypatch, tmp_path, Bundle.open(bundle), version)
    with pytest.raises(BundleError, match="graph is (damaged or )?no ONNX model") as caught:
        machine.load("sampler")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "bundle.plans").glob("sampler*"))


def test_an_operator_that_tensorrt_lacks_leaves_auto_another_backend(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the operator of onnxruntime's own domain, in a graph that says it is TensorRT's."""
    bundle = place()
    (bundle / "manifest.json").unlink()
    shutil.copy(default_bundle() / "manifest.json", bundle / "manifest.json")
    edit_manifest(bundle, lambda data: data["graphs"].update(tensorrt=data["graphs"]["onnxruntime"]))
    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    opened = Bundle.open(bundle)
    with pytest.raises(CannotBuild, match="TensorRT 10.3.0 cannot convert the graph: No importer"):
        load_tensorrt(opened, "sampler")
    choice, _ = load_engines(opened, "auto", threads=1)
    assert choice.backend != "tensorrt" and "cannot convert the graph" in choice.why and gpu.held == 0


def test_a_plan_is_built_once_and_again_for_another_gpu_or_version_or_export(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    opened = Bundle.open(place())
    assert load_tensorrt(opened, "sampler").plan.built
    assert not load_tensorrt(opened, "sampler").plan.built
    assert gpu.builds == 1
    install_tensorrt(monkeypatch, gpu, "11.4.1")  # an update of the machine
    assert load_tensorrt(opened, "sampler").plan.built
    plans = sorted(path.name for path in (tmp_path / "bundle.plans").glob("sampler*"))
    assert plans == ["sampler-fake-orin-8.7.plan"]  # the stale one was replaced
    other = fake_machine(monkeypatch, tmp_path, "11.4.1")
    other.name, other.capability = "Fake Thor", (11, 0)
    from tests.support.fake_cuda import install_bindings

    install_bindings(monkeypatch, other)
    assert load_tensorrt(opened, "sampler").plan.built
    assert len(list((tmp_path / "bundle.plans").glob("sampler*"))) == 2


def test_a_kept_plan_that_tensorrt_refuses_is_built_again(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key cannot see everything: a driver may refuse the plans and the timings of the one before."""
    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    opened = Bundle.open(place())
    load_tensorrt(opened, "sampler").engine.close()
    gpu.driver = 2
    loaded = load_tensorrt(opened, "sampler")
    assert loaded.plan.built and gpu.builds == 2 and not plan_head(loaded.plan.data)["knew_timings"]
    assert not load_tensorrt(opened, "sampler").plan.built


@pytest.mark.parametrize("version", ["8.5.3", "9.3.0", "12.0.0"])
def test_other_versions_are_named(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    install_tensorrt(monkeypatch, gpu, "10.3.0").__version__ = version  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match=f"TensorRT 8.6, 10 or 11 is needed, {version} is installed"):
        load_tensorrt(Bundle.open(place()), "sampler")


class Untouchable:
    """A TensorRT that ends the process when it is touched, as the real one may without a driver."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorrt", "cuda"):
            import importlib.machinery

            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        if spec.name == "cuda":
            return None
        raise AssertionError(f"{spec.name} was imported without a driver")

    def exec_module(self, module):
        pass


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (None, "there is no NVIDIA driver"),
        (FakeDriver(status=100), "the NVIDIA driver finds no GPU"),
        (FakeDriver(devices=0), "the NVIDIA driver finds no GPU"),
        (FakeDriver(status=803), "does not start .cuInit gives error 803"),
    ],
)
def test_without_a_driver_tensorrt_is_never_imported(
    place, monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None, says: str
) -> None:
    if driver is not None:
        install_driver(monkeypatch, driver)
    elif driver_problem() is None:
        pytest.skip("this machine has a driver")
    for name in ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Untouchable(), *sys.meta_path])
    open_cuda.cache_clear()
    open_tensorrt.cache_clear()
    opened = Bundle.open(place())
    reason = find_backend_problems(opened.manifest)["tensorrt"]
    assert reason is not None and says.split(".")[0] in reason
    with pytest.raises(Unavailable, match=says) as caught:
        choose("tensorrt", opened.manifest)
    assert caught.value.exit_status == 4
    assert choose("auto", opened.manifest).backend != "tensorrt"
    with pytest.raises(Unavailable, match=says):
        open_tensorrt()
    with pytest.raises(Unavailable, match=says):
        open_cuda()


def test_the_gpu_is_named_alike_by_both_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.fake_cuda import install_pycuda

    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    assert open_cuda().gpu() == Gpu("Fake Orin", "8.7")
    install_pycuda(monkeypatch, gpu)
    assert open_cuda().gpu() == Gpu("Fake Orin", "8.7")


def warmup(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["lvm-edge", "warmup", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_warmup_builds_every_plan_and_says_what_it_did(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    import json

    bundle = place()
    gpu = fake_machine(monkeypatch, tmp_path, "10.3.0")
    status, out, _ = warmup(monkeypatch, capsys, "--bundle", bundle, "--workspace-mib", 256)
    told = json.loads(out.splitlines()[-1])["plans"]
    assert status == 0 and gpu.builds == 3 and gpu.held == 0
    for name in NAMES:
        path = Path(told[name]["path"])
        assert told[name]["built"] and path.parent == tmp_path / "bundle.plans"
        assert told[name]["bytes"] < path.stat().st_size
        assert plan_head(path.read_bytes().split(b"\n", 1)[1])["workspace"] == 256 << 20
    assert "built in" in out
    status, out, _ = warmup(monkeypatch, capsys, "--bundle", bundle)
    assert status == 0 and gpu.builds == 3 and "was there" in out
    assert not any(plan["built"] for plan in json.loads(out.splitlines()[-1])["plans"].values())


def test_warmup_without_tensorrt_is_one_sentence(place, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorrt" else found(name))
    status, out, err = warmup(monkeypatch, capsys, "--bundle", place())
    assert (status, out) == (4, "") and err.count("\n") == 1
    assert "backend tensorrt cannot run here: TensorRT is not installed" in err


def test_warmup_of_a_bundle_without_tensorrt_graphs_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    fake_machine(monkeypatch, tmp_path, "10.3.0")
    from tests.support.bundles import copy_bundle

    bundle = edit_manifest(copy_bundle(tmp_path), lambda data: data["graphs"].pop("tensorrt", None))
    status, _, err = warmup(monkeypatch, capsys, "--bundle", bundle)
    assert status == 4 and "the bundle has no graphs for tensorrt" in err
