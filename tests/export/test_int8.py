"""Eight bits: what they are calibrated on, what each engine makes of them, and what `auto` chooses."""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.bundle import Bundle
from engines.errors import GateFailed, LvmError
from engines.fake import FakeEngine
from engines.manifest import GRAPHS, Manifest
from engines.select import load_engine
from export.bundle.writer import CheckResult, load_network, write_bundle
from export.networks.model import LvmNet, TorchEngine
from export.parity.check import check_graph
from export.parity.sample_inputs import draw_scenes
from export.quantization import autotune as auto
from export.quantization.calibration_data import Calibration, calibrate
from export.quantization.plan import Choice, Plan
from export.quantization.variants import ErrorMeter, Variants
from tests.support.export_models import card, small_network

CLIP = 40


@pytest.fixture(scope="module")
def network() -> LvmNet:
    return small_network()


def bare(network: LvmNet) -> Manifest:
    """What the runtime needs to know, without any file."""
    one = card(network)
    return Manifest(
        format_version=1, name=one.name, network=network.config, classes=one.classes, graphs={},
        weights=None, files={}, training=one.training,
    )  # fmt: skip


@pytest.fixture(scope="module")
def calibration(network: LvmNet) -> Calibration:
    return calibrate(network, bare(network), ["demo?size=64x64"], frames=CLIP)


@pytest.fixture(scope="module")
def bundle(network: LvmNet, calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nncf", reason="quantises for OpenVINO")
    path = tmp_path_factory.mktemp("int8") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.bundle.writer.calibrate", lambda *args, **options: calibration)
        write_bundle(network, card(network), path, Plan("int8", calibration=("demo",)))
    return path


def test_graphs_are_calibrated_on_what_the_runtime_feeds_them(
    network: LvmNet, calibration: Calibration
) -> None:
    config = network.config
    assert set(calibration.feeds) == set(GRAPHS) and all(calibration.feeds.values())
    sampler = calibration.feeds["sampler"]
    filled = [float(one["valid"][0, : config.memory_tokens].mean()) for one in sampler]
    assert filled[0] == 0 and filled[-1] > 0, "a memory that fills, not one at random"
    reader = calibration.feeds["reader"]
    assert any(one["object_valid"].any() and one["activity_valid"].any() for one in reader)
    ticks = np.concatenate([one["memory_tick"][one["memory_valid"]] for one in reader])
    assert ticks.max() <= CLIP * 5, "no tick beyond what was watched"


def test_equal_pictures_give_equal_feeds_and_others_another_digest(
    network: LvmNet, calibration: Calibration
) -> None:
    again = calibrate(network, bare(network), ["demo?size=64x64"], frames=CLIP)
    assert again.digest == calibration.digest
    for name in GRAPHS:
        for one, other in zip(again.feeds[name], calibration.feeds[name], strict=True):
            assert all(np.array_equal(one[key], other[key]) for key in one)
    seeded = calibrate(network, bare(network), ["demo?size=64x64&seed=9"], frames=CLIP)
    assert seeded.digest != calibration.digest


def test_a_source_that_is_not_there_or_too_short_is_one_sentence(network: LvmNet, tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="there is no video, picture or folder .*nowhere.mp4"):
        calibrate(network, bare(network), [str(tmp_path / "nowhere.mp4")])
    with pytest.raises(LvmError, match="gave too few pictures to calibrate sampler: at least"):
        calibrate(network, bare(network), ["demo?size=64x64"], frames=1)


def test_int8_without_calibration_and_calibration_without_int8_are_refused() -> None:
    with pytest.raises(LvmError, match="int8 needs --calibration"):
        Plan("int8")
    with pytest.raises(LvmError, match="--calibration is for int8 and auto, got --precision fp16"):
        Plan("fp16", calibration=("demo",))
    with pytest.raises(LvmError, match="--precision must be one of fp32, fp16, bf16, w8, int8, auto, got"):
        Plan("fp8")


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_an_int8_bundle_answers_much_like_its_network(network: LvmNet, bundle: Path, target: str) -> None:
    opened = Bundle.open(bundle)
    assert {record.precision for record in opened.manifest.graphs[target].values()} == {"int8"}
    image = draw_scenes(2, 56, np.random.default_rng(1))
    expected = TorchEngine(network, "backbone")({"image": image})["tokens"]
    with load_engine(opened, "backbone", target) as engine:
        got = engine({"image": image})["tokens"]
    cosine = float((got * expected).sum() / np.linalg.norm(got) / np.linalg.norm(expected))
    assert 0.95 < cosine < 0.999999, "near, and not the fp32 graph"


def test_nncf_is_quiet_and_nobody_elses_log_with_it(network: LvmNet, calibration: Calibration) -> None:
    pytest.importorskip("nncf", reason="quantises for OpenVINO")
    log, mine = logging.getLogger("nncf"), logging.NullHandler()
    log.addHandler(mine)
    try:
        with Variants(network, calibration=calibration)._open_quantiser("openvino", "backbone"):
            assert mine.level == logging.NOTSET and not log.isEnabledFor(logging.WARNING)
    finally:
        log.removeHandler(mine)


def test_where_every_operator_is_kept_openvino_answers_as_in_full_precision(
    network: LvmNet, calibration: Calibration
) -> None:
    """What has no parameter (sums, poolings, normalisations) gets no eight bits behind the search's back."""
    pytest.importorskip("nncf", reason="quantises for OpenVINO")
    held = calibration.held_out("backbone")
    measured = ErrorMeter(TorchEngine(network, "backbone"), held)
    variants = Variants(network, calibration=calibration)
    with variants._open_quantiser("openvino", "backbone") as quantiser:
        assert measured.error(quantiser, quantiser.quantise()) > 1e-3
        assert measured.error(quantiser, quantiser.quantise(quantiser.parameters)) < 1e-5


def test_a_sampler_of_state_space_layers_becomes_eight_bits_too() -> None:
    """onnxruntime folds the products that make its kernels of parameters alone: no reason to refuse it."""
    network = small_network(sampler="s5")
    calibration = calibrate(network, bare(network), ["demo?size=64x64"], frames=CLIP)
    measured = ErrorMeter(TorchEngine(network, "sampler"), calibration.held_out("sampler"))
    with Variants(network, calibration=calibration)._open_quantiser("onnxruntime", "sampler") as quantiser:
        assert 1e-5 < measured.error(quantiser, quantiser.quantise()) < 0.2
        assert measured.error(quantiser, quantiser.quantise(quantiser.parameters)) < 1e-4


def test_the_manifest_names_the_pictures_and_the_file_of_each_graph(
    bundle: Path, calibration: Calibration
) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.calibration_digest == calibration.digest
    openvino = manifest.graphs["openvino"]["reader"]
    assert openvino.path.endswith("reader.xml") and openvino.data == "graphs/openvino/reader.bin"
    assert manifest.graphs["onnxruntime"]["reader"].data is None


def test_an_int8_bundle_keeps_weights_to_export_again(network: LvmNet, bundle: Path) -> None:
    again = load_network(Bundle.open(bundle)).state_dict()
    assert again.keys() == network.state_dict().keys()


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_int8_graphs_run_without_the_shared_weights(bundle: Path, target: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(bundle, bare)
    (bare / "weights.safetensors").unlink()
    manifest = Bundle.open(bundle).manifest
    files = {name: record for name, record in manifest.files.items() if name != manifest.weights}
    changed = manifest.model_copy(update={"weights": None, "files": files})
    (bare / "manifest.json").write_text(changed.model_dump_json())
    image = draw_scenes(1, 56, np.random.default_rng(1))
    tokens = []
    for folder in (bundle, bare):
        with load_engine(Bundle.open(folder), "backbone", target) as engine:
            tokens.append(engine({"image": image})["tokens"])
    assert np.array_equal(*tokens)


def test_what_the_answer_gate_refuses_is_quantised_anew_with_half_the_error(
    network: LvmNet, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.bundle.writer.calibrate", lambda *args, **options: calibration)
    seen: list[Any] = []

    def check(bundle: Bundle) -> CheckResult:
        seen.append(bundle.manifest.graphs["onnxruntime"])
        return CheckResult(frozenset({("onnxruntime", "sampler", "int8")} if len(seen) == 1 else ()))

    plan = Plan("int8", ("onnxruntime",), calibration=("demo",))
    write_bundle(network, card(network), tmp_path / "bundle", plan, check=check)
    before, after = (one["sampler"] for one in seen)
    assert "at most 2.0%" in before.why
    if after.precision == "int8":  # of what it had, which is less than the 2 % that it might have had
        error, bound = (
            float(re.findall(r"([\d.]+)%", one.why)[at]) for one, at in ((before, 0), (after, -1))
        )
        assert bound == pytest.approx(error / 2, abs=0.11) and bound < 1
    else:
        assert "no operator may be int8" in after.why
    assert seen[0]["backbone"] == seen[1]["backbone"], "only what was refused"


def test_int8_is_judged_by_the_share_that_it_strays_on_real_pictures(
    network: LvmNet, calibration: Calibration
) -> None:
    inner, held = TorchEngine(network, "backbone"), calibration.held_out("backbone")
    assert not any(one is other for one in held for other in calibration.fitting("backbone"))

    def times(factor: float) -> FakeEngine:
        def run(feeds: Any) -> Any:
            return {"tokens": inner(feeds)["tokens"] * np.float32(factor)}

        return FakeEngine(run, inner.inputs, inner.outputs)

    record = check_graph(network, times(1.1), "backbone", "onnxruntime", "int8", held)
    assert record.error == pytest.approx(0.1, rel=1e-3) and record.tolerance == 0.2
    with pytest.raises(GateFailed, match=r"tokens differs from torch by 30.0% of its size, at most 0.2"):
        check_graph(network, times(1.3), "backbone", "onnxruntime", "int8", held)
    with pytest.raises(GateFailed, match="has the cosine"):
        check_graph(network, times(-1), "backbone", "onnxruntime", "int8", held)
    with pytest.raises(LvmError, match="judged on feeds of real pictures"):
        check_graph(network, times(1), "backbone", "onnxruntime", "int8")


# -- auto ----------------------------------------------------------------------------------------------------


class Timed:
    """Stands for engines whose calls take as long as said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ms: dict[str, float], broken: set[str]) -> None:
        monkeypatch.setattr(
            auto, "time_engines", lambda engines, feeds: {engine: ms[engine] for engine in engines}
        )
        real = auto.check_graph

        def check(network: Any, engine: Any, name: Any, target: Any, precision: Any, reached: Any) -> Any:
            if precision in broken:
                raise auto.GateFailed(f"{name} differs")
            return real(network, engine, name, target, precision, reached)

        monkeypatch.setattr(auto, "check_graph", check)


@pytest.mark.parametrize(
    ("ms", "broken", "best"),
    [
        ({"fp32": 2.0, "fp16": 3.0}, set(), "fp32"),
        ({"fp32": 2.0, "fp16": 1.0}, set(), "fp16"),
        ({"fp32": 2.0, "fp16": 1.97}, set(), "fp32"),
        ({"fp32": 2.0, "fp16": 1.0}, {"fp16"}, "fp32"),
    ],
    ids=["slower", "faster", "hardly faster", "faster but wrong"],
)
def test_auto_takes_the_fastest_that_holds(
    ms: dict[str, float], broken: set[str], best: str, network: LvmNet, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Timed(monkeypatch, ms, broken)
    manifest = write_bundle(network, card(network), tmp_path / "bundle", Plan("auto", ("onnxruntime",)))
    records = manifest.graphs["onnxruntime"]
    assert {record.precision for record in records.values()} == {best}
    why = records["reader"].why
    assert "ms on this machine: fp32 2.00" in why
    assert ("fp16 is out: reader differs" in why) == bool(broken)


def test_what_the_judge_refuses_is_left_out(
    network: LvmNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Timed(monkeypatch, {"fp32": 2.0, "fp16": 1.0}, set())
    seen = []

    def check(bundle: Bundle) -> CheckResult:
        found = bundle.manifest.graphs["onnxruntime"]
        seen.append({name: record.precision for name, record in found.items()})
        return CheckResult(
            frozenset({("onnxruntime", "reader", "fp16")} if found["reader"].precision == "fp16" else ())
        )

    plan = Plan("auto", ("onnxruntime",))
    manifest = write_bundle(network, card(network), tmp_path / "bundle", plan, check=check)
    assert [one["reader"] for one in seen] == ["fp16", "fp32"]
    got = {name: record.precision for name, record in manifest.graphs["onnxruntime"].items()}
    assert got == {"backbone": "fp16", "sampler": "fp16", "reader": "fp32"}


def test_int8_is_a_candidate_only_where_it_can_be_calibrated() -> None:
    assert Plan("auto").candidates("openvino") == ("fp32", "fp16", "bf16")
    assert Plan("auto", calibration=("demo",)).candidates("onnxruntime") == ("fp32", "fp16", "int8")
    assert Plan("auto").choices()["openvino", "reader"] == Choice("fp32", "")
