"""`lvm-train`: train a network by a recipe, and measure how well it answers.

    lvm-train --config configs/training/tiny.yaml --output runs/tiny
    lvm-train --config ... --set lvm.past_queries=0 --seed 1 --output runs/none-1
    lvm-train evaluate runs/tiny --data DATA
    torchrun --nproc-per-node 2 -m export.training --config ...

A run that was killed resumes when it is started again with the same output folder. Exit status: 0 done,
2 wrong use or input, 4 a dependency is missing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.interfaces.cli.error_exit import run_app
from engines.errors import LvmError, Unavailable
from export.training import calibrate_cli, evaluate_cli

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_NEVER = 2**31 - 1
_TOP_PAD_BYTES = 256 << 20


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Recipe (YAML).")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/<name>-<seed>.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of videos' tokens; default beside the run.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    stage: Annotated[str, typer.Option(help="Last stage: backbone, tubedetr or lvm.")] = "lvm",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")
    ] = None,
    products: Annotated[
        Path | None, typer.Option(help="Folder of real products' photos to learn from.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train the recipe."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise LvmError("--config is missing; try --config configs/training/tiny.yaml")
    if importlib.util.find_spec("torch") is None:
        raise Unavailable('torch not installed; pip install "lvm-edge[export]"')
    from edge_runtime.simulation.photo_folders import list_product_photos
    from export.data.checks import read_data_folder
    from export.data.example_counts import warn_of_scarce_classes
    from export.training.data.product_photos import select_held_out
    from export.training.loop.distributed import join_process_group, select_device
    from export.training.recipe import load_recipe
    from export.training.stages import CHECKPOINT, Training

    changes = list(change or ())
    if seed is not None:
        changes.append(f"seed={seed}")
    recipe = load_recipe(config, changes)
    if products is not None:
        held_out = recipe.data.held_out or select_held_out(list(list_product_photos(products, min_photos=0)))
        data = recipe.data.model_copy(update={"products": products, "held_out": held_out})
        recipe = recipe.model_copy(update={"data": data})
    folder = output or Path("runs") / f"{recipe.name}-{recipe.seed}"
    keep_freed_memory()
    chosen = select_device(device)
    processes = join_process_group(chosen)
    if recipe.data.folder is not None and processes.rank == 0:
        warn_of_scarce_classes(read_data_folder(recipe.data.folder), ["train", "val"])
    Training(recipe, folder, cache or folder.parent / "cache", processes, chosen).run(stage)
    if processes.rank == 0:
        done = {"run": str(folder), "stage": stage}
        if stage == "lvm":
            done["checkpoint"] = str(folder / CHECKPOINT)
        typer.echo(json.dumps(done))


app.command("evaluate")(evaluate_cli.evaluate)
app.command("calibrate")(calibrate_cli.calibrate)


def main() -> None:
    """Entry point of `lvm-train`."""
    run_app(app, "lvm-train")


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory, for the whole process. Return False with another C library.

    It maps every large block anew and unmaps it when it is freed, so the kernel zeroes each tensor of each
    step page by page: nearly half of the processor time of a training on CPU.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all([mallopt(name, value) == 1 for name, value in settings])
