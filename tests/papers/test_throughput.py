"""Both systems timed in turns on a short world: what is counted, and what is made of seconds."""

from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engines.errors import LvmError
from export.bundle.writer import write_bundle
from export.data.candidates import QueryRules
from export.data.query_writer import write_queries
from export.data.world_set import make_world_video, write_worlds
from export.evaluation.cost_model import REST_QUERIES
from export.evaluation.run_folders import TrainedRun
from export.evaluation.stream_run import Model
from export.quantization.plan import Plan
from tests.support.evaluation_runs import make_run
from tools.papers.throughput import (
    BASELINE,
    CACHED,
    OURS,
    Timing,
    estimate_costs,
    measure,
    prepare_videos,
    summarise,
    time_queries,
    time_stage_1,
    to_cell,
)

MIN_QUERIES = 3


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Timing, TrainedRun, Model]:
    root = tmp_path_factory.mktemp("timed")
    write_worlds(root / "data", [make_world_video(seed, minutes=0.4, split="test") for seed in (4, 5)])
    write_queries(root / "data", rules=QueryRules(per_cell=3, negatives=0.0))
    run = TrainedRun.open(make_run(root / "run"))
    model = Model.from_network(run.network, run.card)
    videos = prepare_videos(run, model, root / "data", "test", root / "cache")
    network, frames = run.baseline()
    timing = time_queries(videos, network, frames, run.config, model.backbone, MIN_QUERIES, "query")
    assert {to_cell(query) for video in videos for query in video.queries} == set(timing.seconds[OURS])
    return timing, run, model


def test_every_cell_is_measured_as_often_as_asked_by_each_system(
    timed: tuple[Timing, TrainedRun, Model],
) -> None:
    for cells in timed[0].seconds.values():
        assert Counter(map(len, cells.values())) == {MIN_QUERIES: len(cells)} and cells
        assert all(second > 0 for seconds in cells.values() for second in seconds)


def test_reading_frames_costs_their_backbone_more_than_reading_tokens(
    timed: tuple[Timing, TrainedRun, Model],
) -> None:
    seconds = timed[0].seconds
    for cell, cached in seconds[CACHED].items():
        assert all(full > part for full, part in zip(seconds[BASELINE][cell], cached, strict=True))


def test_stage_one_is_the_backbone_and_more(timed: tuple[Timing, TrainedRun, Model]) -> None:
    once, backbone = time_stage_1(timed[2], clips=1)
    assert once > 0 and backbone > 0


def known_times() -> Timing:
    timing = Timing()
    for system, second in ((OURS, 0.01), (BASELINE, 2.0), (CACHED, 0.5)):
        for kind in ("activity", "time"):
            timing.seconds[system][kind, "long"] = [second] * 50  # type: ignore[index]
    return timing


def test_seconds_are_extrapolated_to_a_video_of_rest(timed: tuple[Timing, TrainedRun, Model]) -> None:
    found = estimate_costs(known_times(), timed[1].config, once=0.1, backbone=0.05, window="query")[
        "activity", "long"
    ]
    assert found[OURS].total_s == pytest.approx(1620 * 0.1 + REST_QUERIES * 0.01)
    # A window of 30 minutes is read as one of 27: no window is longer than its video.
    assert found[BASELINE].total_s == pytest.approx(REST_QUERIES * 2.0 * 0.9)
    assert found[CACHED].total_s == pytest.approx(1620 * 0.05 + REST_QUERIES * 0.5 * 0.9)


def test_a_time_query_costs_alike_whatever_its_window(timed: tuple[Timing, TrainedRun, Model]) -> None:
    found = estimate_costs(known_times(), timed[1].config, once=0.1, backbone=0.05, window="query")[
        "time", "long"
    ]
    assert found[BASELINE].total_s == pytest.approx(REST_QUERIES * 2.0)


def test_the_summary_says_how_many_times_faster(timed: tuple[Timing, TrainedRun, Model]) -> None:
    one = summarise(estimate_costs(known_times(), timed[1].config, 0.1, 0.05, "query"))["activity/long"]
    assert one["speed_up"] == pytest.approx([2700 / 177] * 3)
    assert one["measured"] == 50 and np.isclose(one["query_ms"][OURS], 10.0)


def test_too_few_measured_queries_are_not_extrapolated(timed: tuple[Timing, TrainedRun, Model]) -> None:
    with pytest.raises(LvmError, match="measure more queries"):
        estimate_costs(timed[0], timed[1].config, 0.1, 0.05, "query")


def test_a_folder_without_queries_names_the_command(
    tmp_path: Path, timed: tuple[Timing, TrainedRun, Model]
) -> None:
    write_worlds(tmp_path, [make_world_video(4, minutes=0.2, split="test")])
    with pytest.raises(LvmError, match="run python -m export.data queries"):
        prepare_videos(timed[1], timed[2], tmp_path, "test", tmp_path / "cache")


def test_a_bundle_of_another_training_is_refused(
    tmp_path: Path, timed: tuple[Timing, TrainedRun, Model]
) -> None:
    """Its network may be alike; its memory would be asked by what another one remembered."""
    run = timed[1]
    other = TrainedRun.open(make_run(tmp_path / "other", seed=1))
    write_bundle(other.network, other.card, tmp_path / "bundle", Plan(targets=("onnxruntime",)))
    arguments = Namespace(run=run.folder, bundle=tmp_path / "bundle", threads=1)
    with pytest.raises(LvmError, match="must be an export of .*, it has another seed"):
        measure(arguments)
