"""`lvm-train calibrate`: another manifest, the same weights and graphs."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_runtime.query.decode import calibrated
from edge_runtime.service.engine_pool import Engines
from engines.bundle import Bundle
from engines.errors import LvmError
from export.bundle.checkpoint import from_checkpoint
from export.bundle.writer import write_bundle
from export.evaluation.nothing import ask_of_nothing, list_videos
from export.evaluation.results import save_lines
from export.evaluation.run_folders import results_file
from export.quantization.plan import Plan
from export.training.cli import app
from tests.evaluation.test_report import result
from tests.support.evaluation_runs import make_run
from tests.support.media import write_video


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibrate")
    network, card = from_checkpoint(make_run(root / "run") / "checkpoint.safetensors")
    write_bundle(network, card, root / "bundle", Plan("fp32", ("onnxruntime",)))
    return root / "bundle"


def _results(folder: Path, split: str = "val") -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 4, 1200)
    happened = rng.random(1200) < 1 / (1 + np.exp(-(x / 3 - 1)))
    made = [
        result("abcd"[i % 4], i, presence_logit=float(x[i]), happened=bool(happened[i])) for i in range(1200)
    ]
    save_lines(made, results_file(folder, split, "lvm-net"))
    return folder


def _run(*arguments: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_confidences_become_honest_and_nothing_else_changes(bundle: Path, tmp_path: Path) -> None:
    done = _run(bundle, "--results", _results(tmp_path / "r"), "--output", tmp_path / "new")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output.splitlines()[-1])["calibration_error"]["presence"]
    assert said["before"] > 0.12 and said["after"] < 0.05
    old, new = Bundle.open(bundle).manifest, Bundle.open(tmp_path / "new").manifest
    assert new.thresholds.presence_scaling.a == pytest.approx(1 / 3, abs=0.06)
    told = new.training.results
    assert told["validation.presence_auroc"] > 0.6, "what it was fitted to, in the place of a training's own"
    kept = {name: one for name, one in told.items() if not name.startswith("validation.")}
    training = new.training.model_copy(update={"results": kept})
    assert new.model_copy(update={"thresholds": old.thresholds, "training": training}) == old
    assert _run(tmp_path / "new", "--results", tmp_path / "r", "--output", tmp_path / "new").exit_code == 0


def test_a_manifest_tells_how_the_bundle_answers_what_it_was_not_fitted_to(
    bundle: Path, tmp_path: Path
) -> None:
    fitted, unseen = _results(tmp_path / "r"), _results(tmp_path / "t", "test")
    done = _run(bundle, "--results", fitted, "--tested", unseen, "--output", tmp_path / "new")
    assert done.exit_code == 0, done.output
    old, new = (Bundle.open(one).manifest.training.results for one in (bundle, tmp_path / "new"))
    added = {name: value for name, value in new.items() if name not in old}
    assert {name.split(".")[0] for name in added} == {"test", "validation"} and old.items() <= new.items()
    assert 0.6 < added["test.presence_auroc"] < 1 and added["test.activity.short.recall_1x"] >= 0
    nowhere = _run(bundle, "--results", fitted, "--tested", tmp_path, "--output", tmp_path / "other")
    assert isinstance(nowhere.exception, LvmError) and "no results of lvm-net on test" in str(
        nowhere.exception
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("split", "said"), [("test", "test data must not be used for fitting"), ("train", "has no results")]
)
def test_what_cannot_be_fitted_is_said(bundle: Path, tmp_path: Path, split: str, said: str) -> None:
    results = _results(tmp_path / "r")
    done = _run(bundle, "--results", results, "--output", tmp_path / "new", "--split", split)
    assert isinstance(done.exception, LvmError) and said in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_video_in_which_nothing_happens_makes_presence_less_sure(bundle: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name in ("empty", "night"):
        write_video(films / f"{name}.mp4", range(0, 120_000, 1000))
    results = _results(tmp_path / "r")
    plain, taught = tmp_path / "plain", tmp_path / "taught"
    assert _run(bundle, "--results", results, "--output", plain).exit_code == 0
    done = _run(bundle, "--results", results, "--nothing", films, "--output", taught)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output.splitlines()[-1])
    opened = Bundle.open(bundle)
    assert told["of_nothing"] >= len(opened.manifest.classes) * 2 and told["answers"] == 1200
    engines = Engines.load(opened, "onnxruntime", 1)
    asked = ask_of_nothing(engines, list_videos([films]))
    engines.close()
    assert len(asked) == told["of_nothing"] and not any(result.happened for result in asked)
    logits = np.array([result.presence_logit for result in asked], np.float32)
    before, after = (
        float(calibrated(logits, Bundle.open(made).manifest.thresholds.presence_scaling).mean())
        for made in (plain, taught)
    )
    assert after < before - 0.02


def test_nothing_must_be_a_video(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = _run(
        bundle,
        "--results",
        _results(tmp_path / "r"),
        "--nothing",
        tmp_path / "empty",
        "--output",
        tmp_path / "b",
    )
    assert isinstance(done.exception, LvmError) and "at least one video" in str(done.exception)
