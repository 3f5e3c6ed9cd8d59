"""Check that a bundle on this machine still answers like its network after thousands of frames.

    python -m tools.quality.drift --backend openvino --frames 2000 --source demo --report drift.html
    python -m tools.quality.drift --bundle shop --backend onnxruntime --source monday.mp4 --source tuesday/
    python -m tools.quality.drift --gates gates.yaml --data labelled --split val

Runs the exporter's gates (docs/gates.md) on a bundle that exists already. Exit status 3 if a gate fails. The
report is always written, with the numbers as JSON beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.config.paths import default_bundle
from engines.bundle import Bundle
from engines.errors import LvmError
from export.gates.limits import GateSettings, load_settings
from export.gates.result import GateResult
from export.gates.run import require_passed, run_bundle
from tools.console import finish, progress, run_tool, show


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--backend", default="auto", help="auto or the name of one")
    parser.add_argument("--gates", type=Path, metavar="FILE", help="YAML with gates: (docs/gates.md)")
    parser.add_argument("--source", action="append", help="demo, a video or a folder; may be repeated")
    parser.add_argument("--photo", action="append", type=Path, help="an object to ask real video about")
    parser.add_argument("--frames", type=int, help="sampled frames of each source, default 2000")
    parser.add_argument("--every", type=int, help="frames between checkpoints, default 200")
    parser.add_argument("--questions", type=int, help="asked after the last frame, default 1000")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--data", type=Path, help="labelled data folder: the accuracy gate too")
    parser.add_argument("--split", help="of --data, default test")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--report", type=Path, default=Path("drift.html"))
    arguments = parser.parse_args(argv)
    settings = _settings(arguments)
    bundle = Bundle.open(arguments.bundle)
    with progress(settings.frames * len(settings.sources)) as bar:
        result = run_bundle(
            bundle,
            arguments.backend,
            settings,
            threads=arguments.threads,
            report=lambda w, n: bar(w, by=n),
        )
    _print(result)
    failed = None
    try:
        require_passed(result, arguments.report, always=True)
    except LvmError as error:  # the last line is printed all the same
        failed = error
    if failed is not None:
        print(failed, file=sys.stderr)
    finish(summary(result) | {"report": str(arguments.report)})
    return failed.exit_status if failed is not None else 0


def summary(result: GateResult) -> dict[str, Any]:
    """Return the last state of each source, what failed, and the seconds it took."""
    return {
        "bundle": result.bundle,
        "backend": result.backend,
        "ok": result.passed,
        "seconds": result.seconds,
        "drift": {
            drift.source: {
                "frames": drift.frames,
                "final": drift.final.model_dump(mode="json") if drift.final else None,
            }
            for drift in result.drift
        },
        "recall": {kind: recall.model_dump() for kind, recall in result.accuracy.recall.items()}
        if result.accuracy
        else None,
        "findings": [finding.model_dump(mode="json") for _, finding in result.findings],
    }


def _settings(arguments: argparse.Namespace) -> GateSettings:
    given = load_settings(arguments.gates) if arguments.gates else GateSettings()
    named = {
        name: getattr(arguments, name)
        for name in ("frames", "every", "questions", "seed", "data", "split")
        if getattr(arguments, name) is not None
    }
    if arguments.source:
        named["sources"] = tuple(arguments.source)
    if arguments.photo:
        named["photos"] = tuple(arguments.photo)
    try:
        return GateSettings.model_validate({**given.model_dump(), **named})
    except ValueError as error:
        first = error.errors()[0]  # type: ignore[attr-defined]
        raise LvmError(f"--{first['loc'][0]}: {first['msg']}") from None


def _print(result: GateResult) -> None:
    rows: list[list[object]] = []
    for drift in result.drift:
        for point in (*drift.checkpoints, *((drift.final,) if drift.final else ())):
            agreed = point.agreement
            row: list[object] = [drift.source, point.frame, point.tokens, point.angle_deg]
            row += [agreed.questions, agreed.answers, agreed.contents, agreed.activity]
            row += [agreed.box_iou, agreed.span_iou, agreed.abstention]
            rows.append([*row, *(alone.error for alone in point.alone.values())])
    columns = ["source", "frame", "tokens", "angle°", "asked", "answers", "contents", "activity", "box IoU"]
    columns += ["span IoU", "abstention", "backbone", "sampler", "reader"]
    show(f"{result.bundle} on {result.backend} against torch", columns, rows)


if __name__ == "__main__":
    run_tool(main)
