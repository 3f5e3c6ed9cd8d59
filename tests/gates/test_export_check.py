"""What the answer gates found stands in the manifest of a bundle that passed them."""

from pathlib import Path
from typing import Any

import pytest

from engines.bundle import Bundle
from engines.errors import GateFailed
from engines.manifest import GRAPHS
from export.bundle.writer import write_bundle
from export.gates.export_check import MAX_TRIES, make_bundle_check
from export.gates.limits import GateLimits
from export.gates.result import Drift, Finding, GateResult
from export.quantization.plan import Plan
from tests.support.bundles import copy_bundle, edit_manifest, replace_file
from tests.support.export_models import card
from tests.support.gate_runs import SETTINGS, make_toy


def test_a_bundle_says_how_its_answers_agree_with_those_of_its_network(tmp_path: Path) -> None:
    network, plan, output = make_toy(), Plan(targets=("onnxruntime",)), tmp_path / "bundle"
    check = make_bundle_check(network, plan, SETTINGS, output, lambda words, frames: None)
    write_bundle(network, card(network), output, plan, check=check)
    (found,) = Bundle.open(output).manifest.answers
    assert (found.target, found.frames, found.questions) == (
        "onnxruntime",
        SETTINGS.frames,
        SETTINGS.questions,
    )
    assert found.answers == found.contents == found.tokens == 1 and found.source == SETTINGS.sources[0]


def test_without_a_judge_it_says_nothing_of_answers(tmp_path: Path) -> None:
    network = make_toy()
    write_bundle(network, card(network), tmp_path / "bundle", Plan(targets=("onnxruntime",)))
    assert Bundle.open(tmp_path / "bundle").manifest.answers == ()


def found_of(target: str, *findings: Finding) -> GateResult:
    drift = Drift(source="demo", frames=4, checkpoints=(), final=None, findings=findings)
    return GateResult(
        bundle="", digest="", backend=target, precisions={}, limits=GateLimits().int8, seed=0, drift=(drift,),
        seconds=0.0,
    )  # fmt: skip


def test_a_target_is_watched_again_only_where_it_would_compute_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[str] = []

    def passed(bundle: Bundle, target: str, *args: Any, **options: Any) -> GateResult:
        watched.append(target)
        return found_of(target)

    monkeypatch.setattr("export.gates.export_check.run_bundle", passed)
    bundle = copy_bundle(tmp_path)
    check = make_bundle_check(
        make_toy(), Plan("int8", calibration=("demo",)), SETTINGS, bundle, lambda words, frames: None
    )
    check(Bundle.open(bundle))
    assert sorted(watched) == ["onnxruntime", "openvino"]
    check(Bundle.open(bundle))
    assert len(watched) == 2, "nothing has changed"
    graph = "graphs/onnxruntime/reader.onnx"
    replace_file(bundle, graph, (bundle / graph).read_bytes() + b"\0")
    check(Bundle.open(bundle))
    assert watched[2:] == ["onnxruntime"], "the other target loads what it loaded before"
    edit_manifest(bundle, lambda data: data["graphs"]["openvino"]["backbone"].update(precision="bf16"))
    check(Bundle.open(bundle))
    assert watched[3:] == ["openvino"], "the same graph, computed in another precision"


@pytest.mark.parametrize(
    ("certain", "finer"), [(True, {"sampler"}), (False, {"backbone", "sampler", "reader"})]
)
def test_int8_is_made_finer_where_a_graph_is_beyond_its_limit_or_everywhere_where_none_is(
    certain: bool, finer: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Finding(
        quantity="answers", frame=4, value=0.9, limit=0.98, graph="sampler", certain=certain, words="differ"
    )
    monkeypatch.setattr(
        "export.gates.export_check.run_bundle", lambda bundle, target, *a, **k: found_of(target, lost)
    )
    bundle = copy_bundle(tmp_path)
    for name in GRAPHS:
        edit_manifest(
            bundle, lambda data, name=name: data["graphs"]["openvino"][name].update(precision="int8")
        )
    edit_manifest(bundle, lambda data: data["graphs"].pop("onnxruntime"))
    plan = Plan("int8", ("openvino",), calibration=("demo",))
    check = make_bundle_check(make_toy(), plan, SETTINGS, tmp_path / "out", lambda words, frames: None)
    for _ in range(MAX_TRIES):
        assert check(Bundle.open(bundle)).rejected == {("openvino", name, "int8") for name in finer}
    with pytest.raises(GateFailed, match="differ"):
        check(Bundle.open(bundle))
