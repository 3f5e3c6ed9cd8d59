"""`lvm-train evaluate` on a run folder and a data folder of two short checkout worlds."""

import json
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from engines.errors import LvmError
from export.bundle.checkpoint import from_checkpoint
from export.bundle.writer import write_bundle
from export.data.candidates import QueryRules
from export.data.checks import read_data_folder
from export.data.files import QUERIES, write_records
from export.data.query_writer import write_queries
from export.data.records import CropInVideo
from export.data.world_set import make_world_video, write_worlds
from export.evaluation.run_folders import SYSTEMS, TrainedRun, read_baselines, read_events, read_results
from export.evaluation.stream_run import Model
from export.evaluation.videos import encode_crops, open_caches
from export.quantization.plan import Plan
from export.training.evaluate_cli import answer_queries, evaluate
from tests.support.evaluation_runs import make_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_worlds(
        root, [make_world_video(3, minutes=1, split="val"), make_world_video(4, minutes=1, split="test")]
    )
    write_queries(root, rules=QueryRules(per_cell=4))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "small-7", seed=7)


def invoke(*arguments: object):  # type: ignore[no-untyped-def]
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command("evaluate")(evaluate)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_all_systems_answer_all_queries_of_the_split(run: Path, data: Path) -> None:
    found = invoke(run, "--data", data, "--system", "all")
    assert found.exit_code == 0, found.output
    assert "warning: test has " in found.output and "warning: val" not in found.output
    said = json.loads(found.output.splitlines()[-1])
    assert set(said["systems"]) == set(SYSTEMS) and said["split"] == "test"
    asked = {one.qid for one in read_data_folder(data).queries if one.video == "L1-4"}
    for system in SYSTEMS:
        results = read_results([run], "test", system)
        assert results is not None and {one.qid for one in results} == asked
        assert {one.seed for one in results} == {7}
        assert (read_events([run], "test", system) is None) == (system == "tubedetr")
    cells = said["systems"]["lvm-net"]
    assert set(cells) <= {f"{kind}/short" for kind in ("activity", "object", "time")} and cells
    assert all(0 <= low <= estimate <= high <= 1 for estimate, low, high in cells.values())


def test_what_a_part_is_worth_is_told_as_a_paired_difference(run: Path, data: Path) -> None:
    done = invoke(run, "--data", data, "--system", "lvm-net", "--ablate", "svd", "--ablate", "novelty")
    assert done.exit_code == 0, done.output
    last = json.loads(done.output.splitlines()[-1])
    assert set(last["systems"]) == {"lvm-net", "without-svd", "without-novelty"}
    whole = last["systems"]["lvm-net"]
    for name in ("without-svd", "without-novelty"):
        assert last["ablated"][name].keys() == whole.keys()
        for cell, (estimate, low, high) in last["ablated"][name].items():
            assert low <= estimate <= high
            assert estimate == pytest.approx(last["systems"][name][cell][0] - whole[cell][0])
    for options, text in (
        (["--ablate", "luck"], "must be of svd, novelty, order, likeness, spread, got 'luck'"),
        (["--system", "fifo", "--ablate", "svd"], "add --system lvm-net"),
    ):
        error = invoke(run, "--data", data, *options).exception
        assert isinstance(error, LvmError) and text in str(error)


def test_a_bundle_is_evaluated_and_nothing_is_written_into_it(run: Path, data: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    network, card = from_checkpoint(run / "checkpoint.safetensors")
    write_bundle(network, card, bundle, Plan("fp32", ("onnxruntime",)))
    before = sorted(bundle.rglob("*"))
    for given, said in (
        (["--system", "lvm-net"], "name a folder by --output"),
        (["--system", "tubedetr", "--output", tmp_path / "o"], "it has no tubedetr"),
    ):
        found = invoke(bundle, "--data", data, *given)
        assert isinstance(found.exception, LvmError) and said in str(found.exception)
    assert invoke(bundle, "--data", data, "--output", tmp_path / "o").exit_code == 0
    assert invoke(run, "--data", data, "--system", "lvm-net").exit_code == 0
    ours, runs = (read_results([folder], "test", "lvm-net") for folder in (tmp_path / "o", run))
    assert ours and runs and [one.class_logits for one in ours] == [one.class_logits for one in runs]
    assert sorted(bundle.rglob("*")) == before


def test_a_video_is_seen_once_by_each_backbone(run: Path, data: Path, tmp_path: Path) -> None:
    opened, folder = TrainedRun.open(run), read_data_folder(data)
    model = Model.from_network(opened.network, opened.card)
    for digest in ("one", "one", "two"):
        caches = list(open_caches(folder, "test", opened.config, model.backbone, digest, tmp_path))
        assert [cache.name for cache in caches] == ["L1-4"] and len(caches[0].ticks) == 60
    assert len(list(tmp_path.glob("*/L1-4/tokens.npy"))) == 2


def test_crops_out_of_the_video_are_encoded_by_the_backbone(run: Path, data: Path, tmp_path: Path) -> None:
    opened, folder = TrainedRun.open(run), read_data_folder(data)
    model = Model.from_network(opened.network, opened.card)
    query = next(one for one in folder.queries if one.type == "activity")
    crops = [CropInVideo(tick5=tick, box=(0.1, 0.1, 0.5, 0.9)) for tick in (50, 50, 200)]
    asked = [query.model_copy(update={"qid": str(i), "crop": crop}) for i, crop in enumerate(crops)]
    tokens = encode_crops(folder, folder.videos[query.video], asked, opened.config, model.backbone)
    assert tokens["0"].shape == (49, opened.config.d_backbone)
    assert (tokens["0"] == tokens["1"]).all() and not np.allclose(tokens["0"], tokens["2"])


def test_a_run_fills_its_memory_by_the_sampler_that_it_was_trained_with(tmp_path: Path) -> None:
    opened = TrainedRun.open(make_run(tmp_path / "r", seed=2, sampler="random"))
    assert opened.setting("lvm-net").sampler == "random" and opened.setting("lvm-net").seed == 2
    assert opened.setting("query-blind").sampler == "random" and opened.setting("fifo").sampler == "fifo"


def test_the_baseline_is_opened_as_it_was_trained(run: Path) -> None:
    network, frames = TrainedRun.open(run).baseline()
    assert network.stride == 3 and frames == 10


def save_backbone(run: Path, path: Path) -> None:
    """As the first stage leaves it."""
    backbone = TrainedRun.open(run).network.backbone
    save_file({f"backbone.{name}": value for name, value in backbone.state_dict().items()}, path)


def test_a_baseline_that_was_trained_longer_stands_for_the_run_s_own(run: Path, tmp_path: Path) -> None:
    longer = make_run(tmp_path / "longer", seed=1, frames=7)
    for folder in (run, longer):
        save_backbone(folder, tmp_path / f"{folder.name}.safetensors")
    (tmp_path / f"{run.name}.safetensors").replace(longer / "backbone.safetensors")
    own, _ = TrainedRun.open(run).baseline()
    told, frames = TrainedRun.open(run, longer).baseline()
    assert frames == 7  # as it was trained, whatever this run's recipe says
    its, _ = TrainedRun.open(longer).baseline()
    weights = [next(iter(one.state_dict().values())) for one in (own, told, its)]
    assert (weights[1] == weights[2]).all() and not (weights[0] == weights[1]).all()
    (tmp_path / "longer.safetensors").replace(longer / "backbone.safetensors")
    with pytest.raises(LvmError, match="must have the backbone of"):
        TrainedRun.open(run, longer)
    (longer / "backbone.safetensors").write_bytes(b"no weights")
    with pytest.raises(LvmError, match="backbone.safetensors must be a .safetensors file"):
        TrainedRun.open(run, longer)
    (longer / "backbone.safetensors").unlink()
    with pytest.raises(LvmError, match="backbone.safetensors does not exist"):
        TrainedRun.open(run, longer)


def test_a_baseline_that_does_not_say_how_it_was_trained_is_refused(run: Path, tmp_path: Path) -> None:
    save_backbone(run, tmp_path / "backbone.safetensors")
    save_file(TrainedRun.open(run).baseline()[0].state_dict(), tmp_path / "tubedetr.safetensors")
    with pytest.raises(LvmError, match="must say in its metadata by what recipe it was trained"):
        TrainedRun.open(run, tmp_path).baseline()


def test_results_say_whose_the_baseline_is(run: Path, data: Path, tmp_path: Path) -> None:
    found = invoke(run, "--data", data, "--system", "tubedetr", "--output", tmp_path)
    assert found.exit_code == 0, found.output
    assert read_baselines([tmp_path], "test") == [{"run": str(run), "steps": 60}]
    found = invoke(run, "--data", data, "--system", "lvm-net", "--baseline", run)
    assert isinstance(found.exception, LvmError) and "add --system tubedetr" in str(found.exception)


def test_a_run_without_a_baseline_is_evaluated_without(run: Path, data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    copy(run / "checkpoint.safetensors", alone)
    found = invoke(alone, "--data", data)
    assert found.exit_code == 0, found.output
    assert set(json.loads(found.output.splitlines()[-1])["systems"]) == {"lvm-net"}
    asked = invoke(alone, "--data", data, "--system", "lvm-net", "--system", "tubedetr", "--output", tmp_path)
    assert isinstance(asked.exception, LvmError) and "train up to stage tubedetr" in str(asked.exception)
    assert not (tmp_path / "results").exists()  # it is said before anything is answered


def test_backbones_are_told_apart_by_their_weights(run: Path, tmp_path: Path) -> None:
    digests = [TrainedRun.open(folder).backbone_digest() for folder in (run, run, make_run(tmp_path / "r"))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "all"], "--split must be one of train, val, test"),
        (["--split", "train"], "asks nothing of split train"),
        (["--system", "guess"], "--system must be all or of lvm-net, tubedetr"),
    ],
)
def test_what_cannot_be_done_is_said(run: Path, data: Path, options: list[str], said: str) -> None:
    found = invoke(run, "--data", data, *options)
    assert isinstance(found.exception, LvmError) and said in str(found.exception)


def test_a_folder_without_queries_names_the_command(run: Path, data: Path, tmp_path: Path) -> None:
    for file in data.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_records(tmp_path / QUERIES, [])
    with pytest.raises(LvmError, match="run python -m export.data queries"):
        answer_queries(
            TrainedRun.open(run), read_data_folder(tmp_path), "test", ["lvm-net"], tmp_path, tmp_path
        )
