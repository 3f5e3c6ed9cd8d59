"""Write a bundle: weights, graphs for each target, manifest; checked, then moved into place as a whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.bundle import MANIFEST, Bundle
from engines.errors import LvmError
from engines.manifest import (
    GRAPHS,
    ActivityClass,
    AnswersRecord,
    FileRecord,
    GraphName,
    GraphRecord,
    Manifest,
    ParityRecord,
    Target,
    Thresholds,
    TrainingRecord,
)
from export.networks.model import LvmNet
from export.onnx_graphs.external_weights import WEIGHTS, load_weights
from export.parity.check import check_graph
from export.parity.substitute_engine import load_for_comparison
from export.quantization.autotune import Refused, fastest
from export.quantization.calibration_data import Calibration, calibrate
from export.quantization.plan import Plan
from export.quantization.variants import Choices, Variants
from export.support.disk_errors import written

Report = Callable[[str], None]
"""Called with words at each step."""


@dataclass(frozen=True)
class Verdict:
    """What of a bundle does not hold and shall be left out, and how its answers agree with the network's."""

    refused: frozenset[Refused] = frozenset()
    answers: tuple[AnswersRecord, ...] = ()


Judge = Callable[[Bundle], Verdict]
"""Judges a bundle as a whole; raises GateFailed where leaving something out is no way."""


@dataclass(frozen=True)
class ModelCard:
    """What a bundle says of a network beside its shapes."""

    name: str
    classes: tuple[ActivityClass, ...]
    training: TrainingRecord
    thresholds: Thresholds = Thresholds()
    licence: str = "Apache-2.0"
    attributions: tuple[str, ...] = ()

    def recipe(self, *keys: str) -> Any:
        """What the recipe of its training says at `keys`; None where it says nothing."""
        try:
            found = json.loads(self.training.recipe)
        except ValueError:
            return None
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found


def write_bundle(
    network: LvmNet,
    card: ModelCard,
    output: Path,
    plan: Plan,
    report: Report = lambda words: None,
    judge: Judge | None = None,
) -> Manifest:
    """Export `network` as `plan` says to the directory `output`; a bundle that is there already is replaced.

    Every graph is compared with the network through the engine that a device would use, then `judge` says of
    each target as a whole what does not hold. With the precision "auto" that is left out and the next best
    taken. Raises GateFailed where something differs, LvmError where `output` is something else than a
    bundle, Unavailable where a target cannot be run here; then `output` is as it was.
    """
    output = output.absolute()
    refuse_foreign(output)
    network.eval()
    variants = Variants(network, plan.keep, report=report)
    variants.check_patterns()
    # A place that cannot be written is found before minutes are spent.
    with _staged(output) as folder:
        if plan.calibration:
            bare = _manifest(network, card)
            variants.calibration = calibrate(network, bare, plan.calibration, report=report)
        return _written(network, card, plan, variants, folder, report, judge)


def write_copy(
    bundle: Bundle, output: Path, thresholds: Thresholds, results: Mapping[str, float] | None = None
) -> Manifest:
    """The same bundle with other thresholds at `output`, which may be its own place; `results` are added to
    those that its manifest tells. Raises as `write_bundle` does."""
    output = output.absolute()
    refuse_foreign(output)
    before = bundle.manifest.training
    training = before.model_copy(update={"results": before.results | dict(results or {})})
    manifest = bundle.manifest.model_copy(update={"thresholds": thresholds, "training": training})
    with _staged(output) as folder:
        for name in manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bundle.read(name))
        _write_manifest(folder, manifest)
        Bundle.open(folder)
    return manifest


def _written(
    network: LvmNet,
    card: ModelCard,
    plan: Plan,
    variants: Variants,
    folder: Path,
    report: Report,
    judge: Judge | None,
) -> Manifest:
    """Write into `folder` until nothing more is refused."""
    calibration = variants.calibration
    digest = None if calibration is None else calibration.digest

    def write(folder: Path, choices: Choices) -> Bundle:
        folder.mkdir(parents=True, exist_ok=True)
        graphs = variants.write(folder, choices)
        files = _hashes(folder)
        _write_manifest(folder, _manifest(network, card, graphs, files, calibration_digest=digest))
        return Bundle.open(folder)

    refused: frozenset[Refused] = frozenset()
    while True:
        choices = plan.choices()
        if plan.precision == "auto":
            choices = fastest(network, plan, variants, write, report, without=refused)
        # The engines open what was written, so the gates see what a device will see.
        bundle = write(folder, choices)
        parity = _check(network, bundle, calibration, report)
        manifest = bundle.manifest.model_copy(update={"parity": parity})
        _write_manifest(folder, manifest)
        verdict = judge(Bundle.open(folder)) if judge is not None else Verdict()
        more = verdict.refused - refused
        if not more:
            manifest = manifest.model_copy(update={"answers": verdict.answers})
            _write_manifest(folder, manifest)
            return manifest
        if plan.precision == "auto":
            refused |= more
        for target, name, precision in more:
            if precision == "int8":
                variants.tighten(target, name)
        shutil.rmtree(folder)


def _manifest(
    network: LvmNet,
    card: ModelCard,
    graphs: dict[Target, dict[GraphName, GraphRecord]] | None = None,
    files: dict[str, FileRecord] | None = None,
    calibration_digest: str | None = None,
) -> Manifest:
    """What a bundle of these files says; without any, what the runtime needs to know of a network."""
    return Manifest(
        format_version=1,
        name=card.name,
        network=network.config,
        classes=card.classes,
        graphs=graphs or {},
        weights=WEIGHTS if graphs else None,
        files=files or {},
        training=card.training,
        thresholds=card.thresholds,
        calibration_digest=calibration_digest,
        licence=card.licence,
        attributions=card.attributions,
    )


def card_of(manifest: Manifest) -> ModelCard:
    """The card that a bundle was written with."""
    return ModelCard(
        name=manifest.name,
        classes=manifest.classes,
        training=manifest.training,
        thresholds=manifest.thresholds,
        licence=manifest.licence,
        attributions=manifest.attributions,
    )


def network_of(bundle: Bundle) -> LvmNet:
    """Build the torch network of a bundle, with its weights, in evaluation mode."""
    weights = bundle.weights()
    if weights is None:
        raise LvmError(f"bundle {bundle.path} has no shared weights, so no network can be made from it")
    return load_weights(bundle.manifest.network, bytes(weights), f"bundle {bundle.path}")


def refuse_foreign(output: Path) -> None:
    """Raise LvmError where `output` is neither free, nor empty, nor a bundle: files of users stay theirs."""
    if not output.is_symlink():
        if not output.exists() or _is_bundle(output):
            return
        if output.is_dir() and not any(output.iterdir()):
            return
    raise LvmError(f"{output} exists and is no bundle; name another --output")


def _is_bundle(folder: Path) -> bool:
    """Whether a manifest of any format lies there: web applications have a manifest.json too."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format_version", "network", "graphs"} <= manifest.keys()


def _check(
    network: LvmNet, bundle: Bundle, calibration: Calibration | None, report: Report
) -> tuple[ParityRecord, ...]:
    records = []
    for target, graphs in bundle.manifest.graphs.items():
        for name in GRAPHS:
            report(f"comparing {name} on {target}")
            engine, stand_in = load_for_comparison(bundle, name, target)
            with engine:
                reached = () if calibration is None else calibration.held_out(name)
                record = check_graph(network, engine, name, target, graphs[name].precision, reached)
            records.append(record.model_copy(update={"compared_through": stand_in}))
    return tuple(records)


def _hashes(folder: Path) -> dict[str, FileRecord]:
    return {
        str(path.relative_to(folder)): _record(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _record(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


@contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its place if all goes well and is removed otherwise."""
    remedy = "free some space or name another --output"
    with written(output, output.parent, remedy):
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        fresh, old = staging / "new", staging / "old"
        fresh.mkdir()
        with written(output, staging, remedy):
            yield fresh
        for path in fresh.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner only
        if output.exists():
            os.replace(output, old)
        os.replace(fresh, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
