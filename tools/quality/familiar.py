"""Measure how often drawn worlds that no training has seen count as familiar.

    python -m tools.quality.familiar [--worlds 40] [--products PHOTOS] [--backgrounds PICTURES]

With photos, every world sells those products; with pictures, every world stands before one of them. Each
world is watched for `--seconds`, and after each clip it counts whether the camera is familiar, which decides
whether activities are told (`edge_runtime/memory/familiarity.py`). `tools.quality.foreign` says the same of
video without a checkout. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.familiarity import is_familiar
from edge_runtime.memory.recurrent_state import STRANGENESS
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.config import LEVELS
from edge_runtime.simulation.world import World
from engines.bundle import Bundle
from engines.errors import LvmError
from export.evaluation.bootstrap import mean_interval, sum_by_video
from export.training.data.world_pool import make_training_world
from export.training.recipe import Data
from tools.console import finish, progress, run_tool

FIRST_SEED = 300_000


def watch(engines: Engines, world: World, seconds: float) -> list[tuple[bool, float]]:
    """Return whether the camera is familiar after each clip, and its strangeness (1 is the limit)."""
    network = engines.bundle.manifest.network
    size = (network.image_size, network.image_size)
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network))
    count = int(seconds * network.sample_fps)
    clips = []
    for first in range(0, count - network.clip_frames + 1, network.clip_frames):
        times = [(first + number) / network.sample_fps for number in range(network.clip_frames)]
        state = ingest.push([Frame(world.frame(t, size), t) for t in times]).recurrent_state
        if STRANGENESS not in state:
            raise LvmError("this bundle cannot tell how strange a camera is: its training knew no appearance")
        clips.append((is_familiar(state), float(state[STRANGENESS][0])))
    ingest.close()
    return clips


def measure(engines: Engines, data: Data, seeds: Sequence[int], seconds: float) -> dict[str, Any]:
    """Return the share of familiar clips, with its interval over worlds, and quantiles of strangeness."""
    familiar: list[float] = []
    strangeness: list[float] = []
    names: list[str] = []
    with progress(len(seeds)) as step:
        for seed in seeds:
            for yes, value in watch(engines, make_training_world(data, seed), seconds):
                familiar.append(float(yes))
                strangeness.append(value)
                names.append(str(seed))
            step(f"world {seed}")
    share = mean_interval(sum_by_video(familiar, names, [0] * len(names)))
    return {
        "worlds": len(seeds),
        "clips": len(familiar),
        "familiar": round(share.estimate, 3),
        "interval": [round(share.low, 3), round(share.high, 3)],
        "strangeness": {
            name: round(float(reduce(strangeness)), 3)
            for name, reduce in (("lowest", np.min), ("median", np.median), ("highest", np.max))
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--level", choices=sorted(LEVELS), default="L1")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--products", type=Path, help="folder of real products, which every world sells")
    parser.add_argument("--held-out", nargs="*", default=(), help="products of the folder that are left out")
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures, of which every world has one")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(argv)
    data = Data(
        levels=(arguments.level,),
        products=arguments.products,
        held_out=tuple(arguments.held_out),
        product_worlds=float(arguments.products is not None),
        backgrounds=arguments.backgrounds,
        background_worlds=float(arguments.backgrounds is not None),
    )
    engines = Engines.load(Bundle.open(arguments.bundle), arguments.backend, arguments.threads)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.worlds)
    finish(measure(engines, data, seeds, arguments.seconds))
    engines.close()
    return 0


if __name__ == "__main__":
    run_tool(main)
