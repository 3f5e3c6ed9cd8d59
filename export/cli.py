"""`lvm-export`: make a bundle that devices can run, and check that it answers like its network.

    lvm-export --precision fp32                          the default bundle again, into ./bundle-fp32
    lvm-export --preset tiny --init 0                    untrained weights
    lvm-export --checkpoint last.safetensors --output shop --precision fp16

Exit status: 0 done, 2 wrong use or input, 3 a graph differs from its network, 4 something is missing here.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from edge_runtime.interfaces.cli.error_exit import run_app
from engines.errors import LvmError, Unavailable
from engines.manifest import Manifest, Target
from engines.network_config import CONTEXTS, SAMPLERS, ContextName
from export.quantization.plan import DEFAULT_TARGETS, TARGETS, Plan

if TYPE_CHECKING:
    from export.bundle.writer import ModelCard
    from export.gates.limits import GateSettings
    from export.networks.model import LvmNet

_TARGET_NAMES: dict[Target, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
}
_WIDTH = 130
_REQUIRED_PACKAGES = ("torch", "onnx", "onnxscript")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def export(
    checkpoint: Annotated[Path | None, typer.Option(help="Training checkpoint (.safetensors).")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose weights are exported again.")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset to build untrained; needs --init.")] = None,
    init: Annotated[int | None, typer.Option(metavar="SEED", help="Seed of untrained weights.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, w8, int8 or auto.")] = "fp32",
    calibration: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="For int8: a video, a folder, or demo.")
    ] = None,
    keep_fp32: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Parameters that stay fp32, as reader.heads.*")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="onnxruntime, openvino (default both) or tensorrt.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="neural (attention) or s5: what a --preset chooses tokens with.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="svd,text,region: what a --preset reads beside its memory."),
    ] = None,
    memory_tokens: Annotated[
        int | None, typer.Option(help="Slots of the memory, other than the network was trained with.")
    ] = None,
    spread: Annotated[
        bool | None,
        typer.Option(
            "--spread/--no-spread",
            help="Which tokens leave when more are relevant than fit: those close to others, or the least "
            "relevant. Default as trained.",
        ),
    ] = None,
    gates: Annotated[
        Path | None, typer.Option(help="YAML with limits and videos of the answer gate.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Sampled frames that the answer gate watches; 0 leaves it out.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Directory; default ./bundle-<precision>.")] = None,
) -> None:
    """Export a network to a bundle and check that it answers like the network."""
    plan = Plan(
        precision,
        tuple(_parse_targets(target or list(DEFAULT_TARGETS))),
        tuple(keep_fp32 or ()),
        tuple(calibration or ()),
        explicit=target is not None,
    )
    parts = None if context is None else tuple(_parse_contexts(context))
    place = output or Path(f"bundle-{precision}")
    settings = _load_gate_settings(gates, frames)
    _require_workbench()
    from export.bundle.writer import check_output_folder

    check_output_folder(place)
    network, card = _load_source(checkpoint, bundle, preset, init, parts, sampler)
    if memory_tokens is not None or spread is not None:
        network = _with_memory(network, card, memory_tokens, spread)
    manifest, compared = _write(network, card, place, plan, settings)
    _print_table(manifest)
    why = None if compared else "untrained" if settings is not None else "--frames 0"
    if why:
        Console(stderr=True).print(f"answers were not compared ({why}): tensors only")
    typer.echo(json.dumps(_summarise(place, manifest) | {"answers_compared": compared}))


def _with_memory(network: LvmNet, card: ModelCard, tokens: int | None, spread: bool | None) -> LvmNet:
    """Return the same weights over another memory. Raises LvmError where diversity is asked for and the
    recipe says that the sampler never learned which scores mean relevant."""
    from export.networks.model import with_memory

    guidance, sampler = card.recipe("lvm", "guidance"), card.recipe("lvm", "sampler")
    if spread and (guidance == 0 or sampler not in (None, "neural")):
        raise LvmError(
            "--spread needs a neural sampler that was taught what is relevant, got one trained with "
            f"lvm.guidance={guidance}, lvm.sampler={sampler or 'neural'}: train it with guidance"
        )
    return with_memory(network, tokens=tokens, spread=spread)


def main() -> None:
    """Entry point of `lvm-export`."""
    run_app(app, "lvm-export")


def _write(
    network: LvmNet, card: ModelCard, place: Path, plan: Plan, settings: GateSettings | None
) -> tuple[Manifest, bool]:
    """Write the bundle to `place`. Return its manifest, and whether its answers were compared with the
    network's."""
    from export.bundle.writer import write_bundle

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def say(message: str, done: int = 0) -> None:
            progress.update(task, advance=done, description=message)

        check = None
        if card.training.trained and settings is not None:
            from export.gates.export_check import make_bundle_check

            check = make_bundle_check(network, plan, settings, place, say)
        return write_bundle(network, card, place, plan, say, check), check is not None


def _print_table(manifest: Manifest) -> None:
    # A pipe has no width of its own, and a folded table is hard to read.
    columns = ("graph", "target", "precision", "bytes", "ms", "cosine", "error", "tolerance", "why")
    table = Table(*columns, title=manifest.name)
    for row in _make_rows(manifest):
        error, allowed = f"{row['max_abs_error']:.2g}", f"{row['tolerance']:g}"
        if row["error"] is not None:  # w8, int8: of an output's size
            error, allowed = f"{row['error']:.1%}", f"{row['tolerance']:.0%}"
        size, ms, cosine = f"{row['bytes']:,}", f"{row['ms']:.2f}", f"{row['cosine']:.6f}"
        table.add_row(
            row["graph"], row["target"], row["precision"], size, ms, cosine, error, allowed, row["why"]
        )
    Console(width=max(Console().width, _WIDTH)).print(table)
    for line in _list_substitutes(manifest):
        Console(soft_wrap=True, highlight=False).print(line, markup=False)


def _parse_targets(names: list[str]) -> list[Target]:
    for name in names:
        _require_known("--target", name, TARGETS)
    return [cast(Target, name) for name in dict.fromkeys(names)]


def _parse_contexts(names: str) -> list[ContextName]:
    for name in names.split(","):
        _require_known("--context", name, CONTEXTS)
    return [cast(ContextName, name) for name in dict.fromkeys(names.split(","))]


def _require_known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise LvmError(f"{option} {value} is not in this version; it knows {', '.join(known)}")


def _load_gate_settings(file: Path | None, frames: int | None) -> GateSettings | None:
    """Return how answers are compared; None where --frames 0 switches that off."""
    from export.gates.limits import GateSettings, load_settings

    if frames == 0:
        return None
    settings = load_settings(file) if file is not None else GateSettings()
    return settings if frames is None else settings.model_copy(update={"frames": frames})


def _require_workbench() -> None:
    lacking = [name for name in _REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise Unavailable(f'{", ".join(lacking)} not installed; pip install "lvm-edge[export]"')


def _load_source(
    checkpoint: Path | None,
    bundle: Path | None,
    preset: str | None,
    init: int | None,
    context: tuple[ContextName, ...] | None,
    sampler: str | None,
) -> tuple[LvmNet, ModelCard]:
    from edge_runtime.config.paths import default_bundle
    from export.bundle.checkpoint import from_bundle, from_checkpoint, from_preset

    if sampler is not None:
        _require_known("--sampler", sampler, SAMPLERS)
    if sum(path is not None for path in (checkpoint, bundle, preset)) > 1:
        raise LvmError("give one of --checkpoint, --bundle and --preset, got several")
    if (preset is None) != (init is None):
        raise LvmError("--preset and --init belong together: a preset has no weights of its own")
    if preset is not None and init is not None:
        return from_preset(preset, init, context, sampler)
    source = from_checkpoint(checkpoint) if checkpoint else from_bundle(bundle or default_bundle())
    trained = source[0].config.context
    if context is not None and set(context) != set(trained):
        raise LvmError(
            f"--context must be what the network was trained with, {','.join(trained)}, got "
            f"{','.join(context)}; another one takes another training, or --preset with --init"
        )
    if sampler not in (None, source[0].config.sampler):
        raise LvmError(
            f"--sampler must be what the network was trained with, {source[0].config.sampler}, "
            f"got {sampler}; another one takes another training, or --preset with --init"
        )
    return source


def _make_rows(manifest: Manifest) -> list[dict[str, Any]]:
    """Return a row for each graph."""
    rows = []
    for record in manifest.parity:
        graph = manifest.graphs[record.target][record.graph]
        rows.append(
            {
                "graph": record.graph,
                "target": record.target,
                "precision": graph.precision,
                "bytes": manifest.files[graph.path].bytes,
                "max_abs_error": record.max_abs_error,
                "error": record.error,
                "tolerance": record.tolerance,
                "cosine": record.cosine,
                "ms": record.ms,
                "why": graph.why,
                "kept": graph.kept,
                "compared_through": record.compared_through,
            }
        )
    return rows


def _list_substitutes(manifest: Manifest) -> list[str]:
    """Return a line for each target that was compared through another engine than its own."""
    through = {record.target: record.compared_through for record in manifest.parity}
    return [
        f"{target}: compared through {other}, not run on {_TARGET_NAMES[target]} here"
        for target, other in through.items()
        if other is not None
    ]


def _summarise(place: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "bundle": str(place),
        "name": manifest.name,
        "trained": manifest.training.trained,
        "bytes": sum(record.bytes for record in manifest.files.values()),
        "graphs": _make_rows(manifest),
        "answers": [answer.model_dump() for answer in manifest.answers],
    }
