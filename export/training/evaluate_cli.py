"""`lvm-train evaluate`: measure how well a finished run answers, on videos that it has not seen.

    python -m export.data world DATA --val 301000-301003 --test 201000-201007
    python -m export.data queries DATA
    lvm-train evaluate runs/tiny-0 --data DATA --split val
    lvm-train evaluate runs/tiny-0 --data DATA --system all
    lvm-train evaluate my-bundle --data DATA --system lvm-net --output FOLDER
    lvm-train evaluate runs/tiny-0 --data DATA --ablate svd --ablate order

Results are written beside the checkpoint (or to --output), one JSON object a line, for tools.papers.tables.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from engines.errors import LvmError
from engines.manifest import TimeHead

if TYPE_CHECKING:
    import torch

    from export.data.files import DataFolder
    from export.data.records import QueryRecord, Split
    from export.data.token_cache import VideoCache
    from export.evaluation.evaluate import Crops, Evaluation
    from export.evaluation.results import Result
    from export.evaluation.run_folders import TrainedRun
    from export.evaluation.stream_run import Model

WITHOUT = "without-"
"""Before the name of a part that is replaced by noise, as a system's name."""


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or a bundle.")],
    data: Annotated[Path, typer.Option(help="Data folder with videos and queries.jsonl.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="What answers, or all; may be repeated. Default lvm-net, and tubedetr where it is."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of videos' tokens; default beside the run.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results; default the run's, a bundle needs one.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Run on the same backbone whose tubedetr, trained longer, answers for this run's."),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="Replace a part by noise and say what that costs: svd, novelty, order, likeness or spread; "
            "may be repeated.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Answer the queries of a data folder with a run, and write the results."""
    from export.data.checks import read_data_folder
    from export.data.example_counts import warn_of_scarce_classes
    from export.data.records import Split
    from export.evaluation.ablations import PARTS
    from export.evaluation.run_folders import BASELINE, OWN, SYSTEMS, TUBEDETR, TrainedRun, is_bundle
    from export.training.loop.distributed import select_device

    if split not in get_args(Split):
        raise LvmError(f"--split must be one of {', '.join(get_args(Split))}, got {split!r}")
    has_baseline = baseline is not None or (run / BASELINE).is_file()
    names = list(system or ("lvm-net", "tubedetr")[: 2 if has_baseline else 1])
    names = list(SYSTEMS) if names == ["all"] else names
    if unknown := set(names) - set(SYSTEMS):
        raise LvmError(f"--system must be all or of {', '.join(SYSTEMS)}, got {min(unknown)!r}")
    if baseline is not None and TUBEDETR not in names:
        raise LvmError(
            f"--baseline answers as {TUBEDETR}, got --system {', '.join(names)}: add --system {TUBEDETR}"
        )
    if wrong_parts := set(ablate or ()) - set(PARTS):
        raise LvmError(f"--ablate must be of {', '.join(PARTS)}, got {min(wrong_parts)!r}")
    ablated = [WITHOUT + part for part in ablate or ()]
    if ablated and OWN not in names:
        raise LvmError(
            f"--ablate is compared with {OWN}, got --system {', '.join(names)}: add --system {OWN}"
        )
    opened = TrainedRun.open(run, baseline)
    if is_bundle(run) and (output is None or TUBEDETR in names):
        wrong = (
            "it has no tubedetr" if output else "nothing may be written into it: name a folder by --output"
        )
        raise LvmError(f"{run} is a bundle: {wrong}")
    if TUBEDETR in names:
        opened.baseline()  # fails early, before hours of answers, if it is missing
    chosen = select_device(device)
    opened.network.to(chosen)
    results = output or run
    cache_folder = cache or results.absolute().parent / "cache"
    folder = read_data_folder(data)
    warn_of_scarce_classes(folder, [cast("Split", split)])
    by_system = answer_queries(
        opened, folder, cast("Split", split), names + ablated, cache_folder, results, chosen
    )
    recalls = _compute_recalls(by_system, opened.card.thresholds.time_head)
    Console().print(_make_table(recalls, "Recall@1x with 95 % intervals over videos"))
    summary: dict[str, object] = {"run": str(run), "split": split, "systems": recalls}
    if ablated:
        head = opened.card.thresholds.time_head
        summary["ablated"] = costs = {name: _compute_costs(by_system, name, head) for name in ablated}
        Console().print(_make_table(costs, f"Recall@1x less that of {OWN}, with 95 % intervals over videos"))
    typer.echo(json.dumps(summary))


def answer_queries(
    run: TrainedRun,
    data: DataFolder,
    split: Split,
    systems: list[str],
    cache: Path,
    output: Path,
    device: torch.device | str = "cpu",
) -> dict[str, list[Result]]:
    """Return the results of each system, and write them to `output`. Runs video by video."""
    import torch

    from export.evaluation.evaluate import Evaluation
    from export.evaluation.run_folders import TUBEDETR, save_evaluation, trained_file
    from export.evaluation.stream_run import Model
    from export.evaluation.videos import encode_crops, open_caches
    from export.training.backbone.trunk_engine import make_backbone_engine

    model = Model.from_network(run.network, run.card)
    model = replace(model, backbone=make_backbone_engine(run.network, torch.device(device)))
    by_video = _queries_by_video(data, split)
    done: dict[str, Evaluation] = {name: Evaluation([], []) for name in systems}
    with Console(stderr=True).status("") as status:
        caches = open_caches(data, split, run.config, model.backbone, run.backbone_digest(), cache)
        for video in caches:
            queries = by_video.get(video.name, [])
            crops = encode_crops(data, data.videos[video.name], queries, run.config, model.backbone)
            for name in systems:
                status.update(f"{video.name}: {name}")
                part = _answer_video(run, model, name, video, queries, crops, device)
                done[name].results.extend(part.results)
                done[name].events.extend(part.events)
    for name, evaluation in done.items():
        save_evaluation(evaluation, output, split, name)
    if TUBEDETR in done:
        steps = json.dumps(run.baseline_trained())
        trained_file(output, split).write_text(steps + "\n", encoding="utf-8")
    return {name: evaluation.results for name, evaluation in done.items()}


def _answer_video(
    run: TrainedRun,
    model: Model,
    system: str,
    video: VideoCache,
    queries: list[QueryRecord],
    crops: Crops,
    device: torch.device | str,
) -> Evaluation:
    """Return a system's answers about a video."""
    from export.evaluation.ablations import replace_by_noise
    from export.evaluation.baseline import evaluate_baseline
    from export.evaluation.evaluate import Evaluation, evaluate_video
    from export.evaluation.run_folders import OWN, TUBEDETR

    if system.startswith(WITHOUT):
        with replace_by_noise(model, run.network, system.removeprefix(WITHOUT)) as noisy:
            return evaluate_video(noisy, video, queries, run.setting(OWN), crops)
    if system != TUBEDETR:
        return evaluate_video(model, video, queries, run.setting(system), crops)
    network, frames = run.baseline()
    results = evaluate_baseline(
        network.to(device), run.config, video, queries, clip_frames=frames, seed=run.seed, crops=crops
    )
    return Evaluation(results, [])


def _queries_by_video(data: DataFolder, split: str) -> dict[str, list[QueryRecord]]:
    """Return the queries of a split by video. Raises LvmError if there are none."""
    by_video: dict[str, list[QueryRecord]] = {}
    for query in data.queries:
        if data.videos[query.video].split == split:
            by_video.setdefault(query.video, []).append(query)
    if not by_video:
        raise LvmError(
            f"{data.root} asks nothing of split {split}: run python -m export.data queries {data.root}"
        )
    return by_video


def _compute_recalls(by_system: dict[str, list[Result]], head: TimeHead) -> dict[str, dict[str, list[float]]]:
    """Return Recall@1x of each system, `[estimate, low, high]` by `type/duration`, with time head `head`."""
    from export.evaluation.report import cell_intervals, make_recall_1x

    recalls = {}
    for name, results in by_system.items():
        intervals = cell_intervals(results, make_recall_1x(head))
        recalls[name] = {
            f"{kind}/{length}": list(interval[:3]) for (kind, length), interval in intervals.items()
        }
    return recalls


def _compute_costs(by_system: dict[str, list[Result]], name: str, head: TimeHead) -> dict[str, list[float]]:
    """Return what `name` answers right less what the whole network does, paired, `[estimate, low, high]` by
    `type/duration`."""
    from export.evaluation.report import compare_cells, make_recall_1x
    from export.evaluation.run_folders import OWN

    metric = make_recall_1x(head)
    compared = compare_cells(by_system[name], by_system[OWN], metric, metric)
    return {f"{kind}/{length}": list(pair[0][:3]) for (kind, length), pair in compared.items()}


def _make_table(recalls: dict[str, dict[str, list[float]]], title: str) -> Table:
    from export.evaluation.report import TABLE_CELLS

    names = [f"{kind}/{length}" for kind, length in TABLE_CELLS]
    table = Table("system", *names, title=title, title_justify="left")
    for system, cells in recalls.items():
        row = [cells.get(name) for name in names]
        table.add_row(
            system, *("" if cell is None else f"{cell[0]:.3f} {cell[1]:.2f}-{cell[2]:.2f}" for cell in row)
        )
    return table
