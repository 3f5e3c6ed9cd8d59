"""The answer gates as a check of the exporter: reject what fails, target by target."""

from __future__ import annotations

from pathlib import Path

from engines.bundle import Bundle
from engines.errors import Unavailable
from engines.manifest import AnswersRecord, Target
from engines.select import find_backend_problems
from export.bundle.writer import BundleCheck, CheckResult
from export.gates.drift import Report
from export.gates.limits import GateSettings
from export.gates.result import GateResult
from export.gates.run import require_passed, run_bundle
from export.networks.model import LvmNet
from export.quantization.autotune import Rejected
from export.quantization.plan import Plan

MAX_TRIES = 3
"""How often int8 is quantised again with half the error before the export fails."""


def make_bundle_check(
    network: LvmNet, plan: Plan, settings: GateSettings, output: Path, report: Report
) -> BundleCheck:
    """Make a check that runs the gates on every target; the report of a failure is written beside `output`.

    With the precision "auto", what fails is rejected as long as there is a finer precision to go to. With
    "int8" it is quantised again with less error, `MAX_TRIES` times: the graphs that alone are beyond a limit,
    or all of them if there are none, because the graph nearest to a limit need not be the one that costs
    answers. Otherwise raises GateFailed.
    """
    tried = 0
    passed: dict[tuple[str, ...], list[AnswersRecord]] = {}
    """Answers of targets that passed, by the files they were computed with: a target is watched again only
    if its files changed."""

    def check(bundle: Bundle) -> CheckResult:
        nonlocal tried
        refused: set[Rejected] = set()
        answers: list[AnswersRecord] = []
        for target, graphs in bundle.manifest.graphs.items():
            lacking = find_backend_problems(bundle.manifest)[target]
            if lacking is not None and target == "tensorrt":
                continue  # its graphs are written on machines without a GPU too; the exporter says so
            if lacking is not None:
                raise Unavailable(f"answers on {target} cannot be compared here: {lacking}")
            files = _hash_inputs(bundle, target)
            if files in passed:
                answers += passed[files]
                continue
            result = run_bundle(bundle, target, settings, network=network, report=report)
            if result.passed:
                passed[files] = _make_records(target, result)
                answers += passed[files]
                continue
            findings = [finding for _, finding in result.findings if finding.graph is not None]
            sure = [finding for finding in findings if finding.certain or plan.precision == "auto"]
            named = {finding.graph for finding in sure}
            coarse = {
                (target, name, record.precision)
                for name, record in graphs.items()
                if record.precision != "fp32" and (not named or name in named)
            }
            again = plan.precision == "auto" or (plan.precision == "int8" and tried < MAX_TRIES)
            if again and coarse:
                refused |= coarse
            else:
                require_passed(result, output.with_name(f"{output.name}-{target}-gates.html"))
        tried += bool(refused)
        return CheckResult(frozenset(refused), tuple(answers))

    return check


def _hash_inputs(bundle: Bundle, target: Target) -> tuple[str, ...]:
    """Return the target, and the hashes of everything that its engines load."""
    manifest = bundle.manifest
    records = manifest.graphs[target].values()
    named = [path for record in records for path in (record.path, record.data) if path is not None]
    precisions = [record.precision for record in records]
    weights = [manifest.weights] if manifest.weights is not None else []
    return (target, *precisions, *(manifest.files[path].sha256 for path in (*named, *weights)))


def _make_records(target: Target, result: GateResult) -> list[AnswersRecord]:
    """Return the agreement after the last frame of each source."""
    return [
        AnswersRecord(
            target=target,
            source=drift.source,
            frames=drift.frames,
            questions=drift.final.agreement.questions,
            answers=drift.final.agreement.answers,
            contents=drift.final.agreement.contents,
            tokens=drift.final.tokens,
            angle_deg=drift.final.angle_deg,
            box_iou=drift.final.agreement.box_iou,
            span_iou=drift.final.agreement.span_iou,
        )
        for drift in result.drift
        if drift.final is not None
    ]
