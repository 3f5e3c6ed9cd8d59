"""Which product does a token show? The backbone of a run asked about worlds that nobody trained on.

    PYTHONPATH=. python -m tools.identity runs/tiny-0 [--products DIR]

Every cell that shows a handled product (level L1, four moments of each event) is compared with one photo of
each product of its world; the nearest must be the right one. Beside single tokens: all cells of an event
together, and the activity that is read off single tokens. With --products the worlds sell real products,
those that the run held out among them, which are told apart where RUN has its checkpoint (before, the
network is that of --preset). Identity and activity are read by the heads that taught the backbone, which RUN
still holds in `backbone.state`. 95 % intervals are over worlds.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.photo_folders import make_world
from edge_runtime.simulation.world import World
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from export.bundle.checkpoint import from_checkpoint
from export.bundle.presets import load_preset
from export.data.cells import EVIDENCE_OVERLAP, cell_shares
from export.evaluation.run_folders import CHECKPOINT
from export.training.backbone.task import BackboneTrainer
from export.training.data.scenes import photo_of
from export.training.loop.ema import WeightAverage
from tools.console import bootstrap_interval, finish, progress, run_tool, show

FIRST_SEED = 401_000
"""Of the worlds: training never comes this far."""
NAMES = ("token", "event", "token, held out", "event, held out", "activity")
_MOMENTS = 4


def load_trainer(state: Path, network: NetworkConfig) -> BackboneTrainer:
    """The averaged backbone with its heads. Raises LvmError where the file is none."""
    if not state.is_file():
        raise LvmError(f"{state} does not exist; name the folder of a run whose backbone was trained")
    saved = torch.load(state, map_location="cpu", weights_only=True)
    trainer = BackboneTrainer(network, len(saved["weights"]["prototypes"]), 1.0)
    average = WeightAverage(trainer, 0.0)
    average.restore(saved["average"])
    averaged = average.module(trainer)
    assert isinstance(averaged, BackboneTrainer)
    return averaged


def network_of(run: Path, preset: str) -> tuple[NetworkConfig, Collection[str]]:
    """What the run trains and the products that it holds out; before its end the preset's, and none known."""
    if not (run / CHECKPOINT).is_file():
        return load_preset(preset), ()
    network, card = from_checkpoint(run / CHECKPOINT)
    return network.config, card.training.held_out


@torch.no_grad()
def of_world(
    trainer: BackboneTrainer, world: World, size: int, events: int, held_out: Collection[str] = ()
) -> dict[str, float]:
    """Shares that are right of tokens, events and tokens' activities; `held_out` products also apart."""
    rng = np.random.default_rng(world.config.seed)
    instances = world.config.instances
    photos = torch.from_numpy(np.stack([photo_of(world, one, rng, size) for one in range(instances)]))
    asked = functional.normalize(trainer.identity(trainer.backbone(photos).mean(1)), dim=-1)  # (I, e)
    right: dict[str, list[float]] = {}
    for event in world.events(0.0, 1800.0)[:events]:
        found = []
        for t in np.linspace(event.start, event.end, _MOMENTS + 2)[1:-1]:
            tracks = world.truth(float(t)).active
            boxes = [one.box for one in tracks if one.instance == event.instance]
            cells = [np.flatnonzero(cell_shares(box) >= EVIDENCE_OVERLAP) for box in boxes]
            if cells and len(cells[0]):
                frame = torch.from_numpy(world.frame(float(t), (size, size))[None])
                found.append(trainer.backbone(frame)[0][torch.from_numpy(cells[0])])
        if not found:
            continue
        tokens = torch.cat(found)  # (n, d_b)
        likeness = functional.normalize(trainer.identity(tokens), dim=-1) @ asked.T  # (n, I)
        told = {
            "token": (likeness.argmax(1) == event.instance).float().tolist(),
            "event": [float(likeness.mean(0).argmax() == event.instance)],
            "activity": (trainer.activity(tokens).argmax(1) == event.activity).float().tolist(),
        }
        if world.product(event.instance) in held_out:
            told |= {f"{name}, held out": told[name] for name in ("token", "event")}
        for name, values in told.items():
            right.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in right.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--preset", default="tiny", help="of a run that has no checkpoint yet")
    parser.add_argument("--products", type=Path)
    parser.add_argument("--worlds", type=int, default=6)
    parser.add_argument("--events", type=int, default=60, help="of each world")
    arguments = parser.parse_args()
    network, held_out = network_of(arguments.run, arguments.preset)
    trainer = load_trainer(arguments.run / "backbone.state", network)
    found, instances = [], 0
    with progress(arguments.worlds) as step:
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.worlds):
            world = make_world(WorldConfig.level("L1", seed=seed), arguments.products)
            instances = world.config.instances
            found.append(of_world(trainer, world, network.image_size, arguments.events, held_out))
            step(f"world {seed}")
    result: dict[str, Any] = {"worlds": arguments.worlds, "products": instances, "chance": 1 / instances}
    names = [name for name in NAMES if any(name in one for one in found)]
    for name in names:
        values = [one[name] for one in found if name in one]
        result[name] = {"value": float(np.mean(values)), "interval": bootstrap_interval(values)}
    show(
        f"right of {instances} products, {arguments.worlds} worlds",
        ("", "share", "from", "to"),
        [(name, result[name]["value"], *result[name]["interval"]) for name in names],
    )
    finish(result)
    return 0


if __name__ == "__main__":
    run_tool(main)
