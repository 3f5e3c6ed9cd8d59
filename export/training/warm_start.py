"""What a training begins with: weights of a bundle or checkpoint, and what those have seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_runtime.simulation.photo_folders import list_product_photos
from engines.errors import LvmError
from export.bundle.checkpoint import from_bundle, from_checkpoint
from export.bundle.writer import ModelCard
from export.networks.model import LvmNet
from export.onnx_graphs.external_weights import hash_weights
from export.training.data.dataset import Footage
from export.training.recipe import Data, Recipe

_OF_BACKBONE = ("backbone", "image_size", "d_backbone")
_MAY_DIFFER = ("context", "queue")
_MAY_BE_NEW = ("order",)
"""What a start without it may be given: its other weights stay, and what is new is learned."""
_OF_SAMPLER = ("sampler", "sampler_layers", "sampler_states")


def start_of(recipe: Recipe) -> tuple[LvmNet, ModelCard]:
    """The network of the bundle or checkpoint that the recipe starts from, and what it says of itself.

    Where only its backbone is taken, only that must be of the recipe's shape. Raises LvmError.
    """
    assert recipe.start is not None
    found, card = from_bundle(recipe.start) if recipe.start.is_dir() else from_checkpoint(recipe.start)
    wanted, has = vars(recipe.network), vars(found.config)
    all_names = tuple(name for name in wanted if name not in _MAY_DIFFER or found.config.queues)
    all_names = tuple(name for name in all_names if name not in _MAY_BE_NEW or has[name])
    only_backbone = recipe.tubedetr.optimiser.steps and not recipe.tubedetr.from_start
    names = _OF_BACKBONE if only_backbone else all_names
    if recipe.network.likeness and not recipe.backbone.optimiser.steps:
        names = (*names, "likeness")  # its head is learned with a backbone
    if wanted["sampler"] != has["sampler"]:
        names = tuple(name for name in names if name not in _OF_SAMPLER)
    differing = [
        f"{name} {has[name]} instead of {wanted[name]}" for name in names if has[name] != wanted[name]
    ]
    if differing:
        raise LvmError(f"start {recipe.start} must be of the recipe's network, got {', '.join(differing)}")
    return found, card


def origin(start: LvmNet, card: ModelCard) -> dict[str, Any]:
    """What a manifest says of the start: which weights, and how they were learned, as far as that is told."""
    told = card.training
    return {"weights": hash_weights(start), "recipe": told.recipe, "seed": told.seed, "data": told.data}


def without_folders(recipe: Recipe) -> Recipe:
    """`recipe` as a manifest tells it: the start by its name, not where it lay."""
    if recipe.start is None:
        return recipe
    return recipe.model_copy(update={"start": Path(recipe.start.name)})


def held_out_by_both(card: ModelCard, data: Data, footage: Footage) -> tuple[str, ...]:
    """Products that surely neither the start, which says so on its `card`, nor this training has seen."""
    before, now = set(card.training.held_out), set(footage.held_out)
    # Where the folder has products of the start's list the start may have learned from all its others.
    if data.products is not None and before & set(list_product_photos(data.products, min_photos=0)):
        now &= before
    return tuple(sorted(now | (before - footage.products())))
