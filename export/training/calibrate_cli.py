"""`lvm-train calibrate`: calibrate a bundle's confidences on the data where it is used.

    lvm-train evaluate my-bundle --data DATA --split val --system lvm-net --output RESULTS
    lvm-train calibrate my-bundle --results RESULTS --output my-honest-bundle

With --nothing the presence of an activity is calibrated on video without any, too: a network that has always
seen something happen is too sure. With --tested the manifest also states the recall on data that neither
training nor calibration has seen. Weights, graphs and the order of answers do not change.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import LvmError


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle whose answers were evaluated.")],
    results: Annotated[
        list[Path], typer.Option(help="Folder that lvm-train evaluate wrote for it; may be repeated.")
    ],
    output: Annotated[Path, typer.Option(help="The bundle that is written; may be the same.")],
    split: Annotated[str, typer.Option(help="Of the results: val, or train.")] = "val",
    tested: Annotated[
        Path | None,
        typer.Option(help="Folder of its results on split test, whose recall the manifest then states."),
    ] = None,
    nothing: Annotated[
        list[Path] | None,
        typer.Option(help="Videos, or folders of them, in which no activity happens; may be repeated."),
    ] = None,
) -> None:
    """Fit the scales of confidences, the better time head and the threshold of presence to results."""
    from edge_runtime.service.engine_pool import Engines
    from engines.bundle import Bundle
    from export.bundle.writer import write_copy
    from export.evaluation import confidence
    from export.evaluation.nothing import ask_of_nothing, list_videos
    from export.evaluation.report import summarise_for_manifest
    from export.evaluation.results import Result
    from export.evaluation.run_folders import OWN, read_events, read_results

    if split not in ("val", "train"):
        raise LvmError(f"--split must be val or train, got {split!r}: test data must not be used for fitting")
    opened = Bundle.open(bundle)
    fitting = read_results(results, split, OWN)
    if fitting is None:
        raise LvmError(
            f"{results[0]} has no results of {OWN} on {split}; make them by: "
            f"lvm-train evaluate {bundle} --data DATA --split {split} --system {OWN} --output {results[0]}"
        )
    idle: list[Result] = []
    if nothing:
        with closing(Engines.load(opened)) as engines:
            idle = ask_of_nothing(engines, list_videos(nothing), fitting[0].seed)
    fitted = confidence.calibrate([*fitting, *idle])
    former = opened.manifest.thresholds
    thresholds = fitted.model_copy(
        update={"evidence": former.evidence, "interpolate_s": former.interpolate_s}
    )
    unseen = read_results([tested], "test", OWN) if tested is not None else []
    if unseen is None:
        raise LvmError(
            f"{tested} has no results of {OWN} on test; make them by: lvm-train evaluate {bundle} "
            f"--data DATA --system {OWN} --output {tested}"
        )
    recalls: dict[str, float] = {}
    if split == "val":  # replaces the training's own validation, of fewer videos and maybe another memory
        recalls |= summarise_for_manifest(
            fitting, read_events(results, split, OWN) or [], thresholds.time_head, "validation"
        )
    if tested is not None:
        recalls |= summarise_for_manifest(
            unseen, read_events([tested], "test", OWN) or [], thresholds.time_head, "test"
        )
    write_copy(opened, output, thresholds, recalls)
    seeds = {result.seed for result in fitting}
    errors = {
        name: {"before": before.after.estimate, "after": after.after.estimate, "least": after.honest_error}
        for (name, before), after in zip(
            confidence.measure_calibration(fitting, dict.fromkeys(seeds, former)).items(),
            confidence.measure_calibration(fitting, dict.fromkeys(seeds, thresholds)).values(),
            strict=True,
        )
    }
    typer.echo(
        json.dumps(
            {
                "bundle": str(output),
                "answers": len(fitting),
                "of_nothing": len(idle),
                "calibration_error": errors,
            }
        )
    )
