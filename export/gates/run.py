"""Run the gates on an exported bundle.

    from export.gates.run import require_passed, run_bundle
    require_passed(run_bundle(Bundle.open(folder), "openvino", settings, network=network), Path("gates.html"))

Gate (a), tensors of each graph, is `export.parity.check`; here are (b), recurrent drift, and (c), accuracy.
"""

from __future__ import annotations

import time
from pathlib import Path

from edge_runtime.service.engine_pool import Engines
from engines.bundle import Bundle
from engines.errors import GateFailed
from engines.manifest import GRAPHS
from engines.select import find_target
from export.gates.drift import Report, measure_drift
from export.gates.limits import GateSettings
from export.gates.report import write_report
from export.gates.result import Finding, GateResult
from export.networks.model import LvmNet, TorchEngine
from export.parity.relative_error import Graphs
from export.stream_runs.footage import open_footage

_SETTINGS = GateSettings()


def run_bundle(
    bundle: Bundle,
    backend: str,
    settings: GateSettings = _SETTINGS,
    *,
    network: LvmNet | None = None,
    threads: int | None = None,
    report: Report = lambda message, frames: None,
) -> GateResult:
    """Run the gates on one backend ("auto" or a name) against `network`, by default the bundle's own in fp32.

    What fails is in the result: it is not raised, and nothing is written. Raises LvmError or Unavailable
    where nothing can be compared.
    """
    if network is None:
        # The exporter imports this module, so its writer can only be imported late.
        from export.bundle.writer import load_network

        network = load_network(bundle)
    engines = Engines.load(bundle, backend, threads)
    try:
        graphs: Graphs = {"backbone": engines.backbone, "sampler": engines.sampler, "reader": engines.reader}
        records = bundle.manifest.graphs[find_target(engines.choice.backend)]
        precisions = {name: records[name].precision for name in GRAPHS}
        started = time.perf_counter()
        reference: Graphs = {name: TorchEngine(network, name) for name in GRAPHS}
        manifest = bundle.manifest
        drifts = tuple(
            measure_drift(manifest, reference, graphs, precisions, footage, settings, report)
            for footage in open_footage(settings.sources, settings.photos, settings.seed)
        )
        accuracy = None
        if settings.data is not None:
            from export.gates.accuracy import measure_accuracy

            report(f"accuracy on {settings.data}", 0)
            accuracy = measure_accuracy(bundle, network, graphs, precisions, settings)
        return GateResult(
            bundle=manifest.name,
            digest=bundle.digest,
            backend=graphs["reader"].backend,
            precisions=dict(precisions),
            limits=settings.limits.for_precisions(precisions.values()),
            seed=settings.seed,
            drift=drifts,
            accuracy=accuracy,
            seconds=time.perf_counter() - started,
        )
    finally:
        engines.close()


def require_passed(result: GateResult, html: Path, *, always: bool = False) -> None:
    """Write the report if a gate failed, or `always` if asked. Raises GateFailed in one sentence if a gate
    failed."""
    failed = not result.passed
    where = f"see {html}"
    if failed or always:
        try:
            write_report(result, html)
        except OSError as error:
            if not failed:
                raise
            where = f"the report could not be written to {html}: {error.strerror}"
    if failed:
        raise GateFailed(f"{describe_failure(result)}; {where}")


def describe_failure(result: GateResult) -> str:
    """Describe what failed first: graph, step and quantity. Empty if nothing did."""
    if result.passed:
        return ""
    source, first = min(result.findings, key=lambda entry: _rank_finding(entry[1]))
    more = len(result.findings) - 1
    text = f"{result.bundle} on {result.backend}: {describe_place(first, source)}: {first.words}"
    return text + (f", and {more} more" if more else "")


def describe_place(finding: Finding, source: str) -> str:
    """Describe graph and step."""
    graph = ""
    if finding.graph is not None:
        graph = f"{finding.graph}, " if finding.certain else f"no graph alone, most likely {finding.graph}, "
    return f"{graph}{source}" + ("" if finding.frame is None else f" after {finding.frame} frames")


def _rank_finding(finding: Finding) -> tuple[bool, int, bool]:
    """Sort what ended the run first, then by frame, certain graphs before uncertain."""
    return finding.quantity not in ("fault", "finite"), finding.frame or 0, not finding.certain
