"""What the answer gates found stands in the manifest of a bundle that passed them."""

from pathlib import Path

from export_models import card
from gate_runs import SETTINGS, toy

from engines.bundle import Bundle
from export.bundle_writer import write_bundle
from export.gates.judge import judge_of
from export.precision import fp32


def test_a_bundle_says_how_its_answers_agree_with_those_of_its_network(tmp_path: Path) -> None:
    network, plan, output = toy(), fp32(["onnxruntime"]), tmp_path / "bundle"
    judge = judge_of(network, plan, SETTINGS, output, lambda words, frames: None)
    write_bundle(network, card(network), output, plan, judge=judge)
    (found,) = Bundle.open(output).manifest.answers
    assert (found.target, found.frames, found.questions) == (
        "onnxruntime",
        SETTINGS.frames,
        SETTINGS.questions,
    )
    assert found.answers == found.contents == found.tokens == 1 and found.source == SETTINGS.sources[0]


def test_without_a_judge_it_says_nothing_of_answers(tmp_path: Path) -> None:
    network = toy()
    write_bundle(network, card(network), tmp_path / "bundle", fp32(["onnxruntime"]))
    assert Bundle.open(tmp_path / "bundle").manifest.answers == ()
