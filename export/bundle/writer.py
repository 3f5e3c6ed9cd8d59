"""Write a bundle (weights, graphs for each target, manifest), check it, then move it into place as
a whole."""

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
from export.parity.check import check_graph, load_for_comparison
from export.quantization.autotune import Rejected, choose_fastest
from export.quantization.calibration_data import Calibration, calibrate
from export.quantization.plan import Plan
from export.quantization.variants import Choices, Variants
from export.support.errors import explain_disk_errors

Report = Callable[[str], None]
"""Called with a message at each step."""


@dataclass(frozen=True)
class CheckResult:
    """Graphs that failed a check of the whole bundle, and how its answers agree with the network's."""

    rejected: frozenset[Rejected] = frozenset()
    answers: tuple[AnswersRecord, ...] = ()


BundleCheck = Callable[[Bundle], CheckResult]
"""Checks a bundle as a whole; raises GateFailed where leaving something out does not help."""


@dataclass(frozen=True)
class ModelCard:
    """A bundle's facts about a network apart from its shapes."""

    name: str
    classes: tuple[ActivityClass, ...]
    training: TrainingRecord
    thresholds: Thresholds = Thresholds()
    licence: str = "Apache-2.0"
    attributions: tuple[str, ...] = ()

    def recipe(self, *keys: str) -> Any:
        """Return the value at `keys` in the training recipe; None where there is none."""
        try:
            value = json.loads(self.training.recipe)
        except ValueError:
            return None
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def write_bundle(
    network: LvmNet,
    card: ModelCard,
    output: Path,
    plan: Plan,
    report: Report = lambda message: None,
    check: BundleCheck | None = None,
) -> Manifest:
    """Export `network` as `plan` says to the directory `output`; a bundle that is already there is replaced.

    Every graph is compared with the network through the engine that a device would use, then `check` rejects
    graphs of each target as a whole. With the precision "auto" the next best precision replaces a rejected
    one. Raises GateFailed where something differs, LvmError where `output` is not a bundle, Unavailable where
    a target cannot be run here; then `output` is unchanged.
    """
    output = output.absolute()
    check_output_folder(output)
    network.eval()
    variants = Variants(network, plan.keep, report=report)
    variants.check_patterns()
    # A folder that cannot be written fails before minutes are spent.
    with _staging_folder(output) as folder:
        if plan.calibration:
            bare = _make_manifest(network, card)
            variants.calibration = calibrate(network, bare, plan.calibration, report=report)
        return _write_until_accepted(network, card, plan, variants, folder, report, check)


def write_copy(
    bundle: Bundle, output: Path, thresholds: Thresholds, results: Mapping[str, float] | None = None
) -> Manifest:
    """Copy a bundle with other thresholds to `output`, which may be its own folder. `results` are added to
    those in its manifest. Raises as `write_bundle` does."""
    output = output.absolute()
    check_output_folder(output)
    before = bundle.manifest.training
    training = before.model_copy(update={"results": before.results | dict(results or {})})
    manifest = bundle.manifest.model_copy(update={"thresholds": thresholds, "training": training})
    with _staging_folder(output) as folder:
        for name in manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bundle.read(name))
        _write_manifest(folder, manifest)
        Bundle.open(folder)
    return manifest


def _write_until_accepted(
    network: LvmNet,
    card: ModelCard,
    plan: Plan,
    variants: Variants,
    folder: Path,
    report: Report,
    check: BundleCheck | None,
) -> Manifest:
    """Write into `folder` until no graph is rejected any more."""
    calibration = variants.calibration
    digest = None if calibration is None else calibration.digest

    def write(folder: Path, choices: Choices) -> Bundle:
        folder.mkdir(parents=True, exist_ok=True)
        graphs = variants.write(folder, choices)
        files = _hash_files(folder)
        _write_manifest(folder, _make_manifest(network, card, graphs, files, calibration_digest=digest))
        return Bundle.open(folder)

    refused: frozenset[Rejected] = frozenset()
    while True:
        choices = plan.choices()
        if plan.precision == "auto":
            choices = choose_fastest(network, plan, variants, write, report, without=refused)
        # The engines open what was written, so the gates see what a device will see.
        bundle = write(folder, choices)
        parity = _compare_graphs(network, bundle, calibration, report)
        manifest = bundle.manifest.model_copy(update={"parity": parity})
        _write_manifest(folder, manifest)
        result = check(Bundle.open(folder)) if check is not None else CheckResult()
        more = result.rejected - refused
        if not more:
            manifest = manifest.model_copy(update={"answers": result.answers})
            _write_manifest(folder, manifest)
            return manifest
        if plan.precision == "auto":
            refused |= more
        for target, name, precision in more:
            if precision == "int8":
                variants.tighten(target, name)
        shutil.rmtree(folder)


def _make_manifest(
    network: LvmNet,
    card: ModelCard,
    graphs: dict[Target, dict[GraphName, GraphRecord]] | None = None,
    files: dict[str, FileRecord] | None = None,
    calibration_digest: str | None = None,
) -> Manifest:
    """Make the manifest of a bundle with these files; without files, what the runtime needs to know of a
    network."""
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


def make_card(manifest: Manifest) -> ModelCard:
    """Return the card that a bundle was written with."""
    return ModelCard(
        name=manifest.name,
        classes=manifest.classes,
        training=manifest.training,
        thresholds=manifest.thresholds,
        licence=manifest.licence,
        attributions=manifest.attributions,
    )


def load_network(bundle: Bundle) -> LvmNet:
    """Build the torch network of a bundle, with its weights, in evaluation mode."""
    weights = bundle.weights()
    if weights is None:
        raise LvmError(f"bundle {bundle.path} has no shared weights, so no network can be made from it")
    return load_weights(bundle.manifest.network, bytes(weights), f"bundle {bundle.path}")


def check_output_folder(output: Path) -> None:
    """Raise LvmError where `output` exists and is neither empty nor a bundle: users' files are never
    replaced."""
    if not output.is_symlink():
        if not output.exists() or _is_bundle(output):
            return
        if output.is_dir() and not any(output.iterdir()):
            return
    raise LvmError(f"{output} exists and is no bundle; name another --output")


def _is_bundle(folder: Path) -> bool:
    """Tell whether the folder holds a manifest of any format: web applications have a manifest.json too."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format_version", "network", "graphs"} <= manifest.keys()


def _compare_graphs(
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


def _hash_files(folder: Path) -> dict[str, FileRecord]:
    return {
        str(path.relative_to(folder)): _make_file_record(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _make_file_record(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


@contextmanager
def _staging_folder(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` that takes its place if all goes well and is removed otherwise."""
    remedy = "free some space or name another --output"
    with explain_disk_errors(output, output.parent, remedy):
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        fresh, old = staging / "new", staging / "old"
        fresh.mkdir()
        with explain_disk_errors(output, staging, remedy):
            yield fresh
        for path in fresh.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner only
        if output.exists():
            os.replace(output, old)
        os.replace(fresh, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
