"""The answer gates as a judge of the exporter: what does not hold, target by target."""

from __future__ import annotations

from pathlib import Path

from engines.bundle import Bundle
from engines.errors import Unavailable
from engines.manifest import AnswersRecord, Target
from engines.select import find_backend_problems
from export.bundle.writer import Judge, Verdict
from export.gates.drift import Report
from export.gates.limits import GateSettings
from export.gates.result import GateResult
from export.gates.run import demand, run_bundle
from export.networks.model import LvmNet
from export.quantization.autotune import Refused
from export.quantization.plan import Plan

TRIES = 3
"""How often int8 is made finer before it is given up; each halves the error."""


def judge_of(network: LvmNet, plan: Plan, settings: GateSettings, output: Path, report: Report) -> Judge:
    """Runs the gates on every target; a failure's report lies beside `output`.

    With the precision "auto" what fails is left out, as long as there is a finer precision to go to; with
    "int8" it is quantised anew with less error, `TRIES` times: the graphs that are beyond a limit alone, or
    all where none is, because the one nearest to a limit need not be the one that costs answers. Otherwise
    GateFailed.
    """
    tried = 0
    passed: dict[tuple[str, ...], list[AnswersRecord]] = {}
    """Answers of targets that passed before, by the files that they were computed with: what another target
    needs anew is no reason to watch these again."""

    def judge(bundle: Bundle) -> Verdict:
        nonlocal tried
        refused: set[Refused] = set()
        answers: list[AnswersRecord] = []
        for target, graphs in bundle.manifest.graphs.items():
            lacking = find_backend_problems(bundle.manifest)[target]
            if lacking is not None and target == "tensorrt":
                continue  # its graphs are written on machines without a GPU too; the exporter says so
            if lacking is not None:
                raise Unavailable(f"answers on {target} cannot be compared here: {lacking}")
            files = _files(bundle, target)
            if files in passed:
                answers += passed[files]
                continue
            result = run_bundle(bundle, target, settings, network=network, report=report)
            if result.passed:
                passed[files] = _answers(target, result)
                answers += passed[files]
                continue
            findings = [finding for _, finding in result.findings if finding.graph is not None]
            sure = [one for one in findings if one.certain or plan.precision == "auto"]
            named = {one.graph for one in sure}
            coarse = {
                (target, name, record.precision)
                for name, record in graphs.items()
                if record.precision != "fp32" and (not named or name in named)
            }
            again = plan.precision == "auto" or (plan.precision == "int8" and tried < TRIES)
            if again and coarse:
                refused |= coarse
            else:
                demand(result, output.with_name(f"{output.name}-{target}-gates.html"))
        tried += bool(refused)
        return Verdict(frozenset(refused), tuple(answers))

    return judge


def _files(bundle: Bundle, target: Target) -> tuple[str, ...]:
    """Target and hashes of everything that its engines load."""
    manifest = bundle.manifest
    records = manifest.graphs[target].values()
    named = [path for one in records for path in (one.path, one.data) if path is not None]
    precisions = [one.precision for one in records]
    weights = [manifest.weights] if manifest.weights is not None else []
    return (target, *precisions, *(manifest.files[path].sha256 for path in (*named, *weights)))


def _answers(target: Target, result: GateResult) -> list[AnswersRecord]:
    """After the last frame of each source."""
    return [
        AnswersRecord(
            target=target,
            source=one.source,
            frames=one.frames,
            questions=one.final.agreement.questions,
            answers=one.final.agreement.answers,
            contents=one.final.agreement.contents,
            tokens=one.final.tokens,
            angle_deg=one.final.angle_deg,
            box_iou=one.final.agreement.box_iou,
            span_iou=one.final.agreement.span_iou,
        )
        for one in result.drift
        if one.final is not None
    ]
