"""The answer gates as a judge of the exporter: what does not hold, target by target."""

from __future__ import annotations

from pathlib import Path

from engines.bundle import Bundle
from engines.errors import Missing
from engines.select import available
from export.auto import Refused
from export.bundle_writer import Judge
from export.gates.drift import Report
from export.gates.gate import demand, run_bundle
from export.gates.limits import GateSettings
from export.networks.model import LvmNet
from export.precision import Plan


def judge_of(network: LvmNet, plan: Plan, settings: GateSettings, output: Path, report: Report) -> Judge:
    """Runs the gates on every target; a failure's report lies beside `output`.

    With the precision "auto" what fails is left out, as long as there is a finer precision to go to;
    otherwise GateFailed.
    """

    def judge(bundle: Bundle) -> frozenset[Refused]:
        refused: set[Refused] = set()
        for target, graphs in bundle.manifest.graphs.items():
            lacking = available(bundle.manifest)[target]
            if lacking is not None and target == "tensorrt":
                continue  # its graphs are written on machines without a GPU too; the exporter says so
            if lacking is not None:
                raise Missing(f"answers on {target} cannot be compared here: {lacking}")
            result = run_bundle(bundle, target, settings, network=network, report=report)
            named = {finding.graph for _, finding in result.findings if finding.graph is not None}
            coarse = {
                (target, name, record.precision)
                for name, record in graphs.items()
                if record.precision != "fp32" and (not named or name in named)
            }
            if plan.precision == "auto" and not result.passed and coarse:
                refused |= coarse
            else:
                demand(result, output.with_name(f"{output.name}-{target}-gates.html"))
        return frozenset(refused)

    return judge
