"""Start a training from the weights of a bundle or checkpoint, and record what those were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_runtime.simulation.photo_folders import list_product_photos
from engines.errors import LvmError
from export.bundle.checkpoint import from_bundle, from_checkpoint
from export.bundle.writer import ModelCard
from export.networks.model import LvmNet
from export.onnx_graphs.external_weights import hash_weights
from export.training.data.dataset import VideoDataset
from export.training.recipe import Data, Recipe

_BACKBONE_KEYS = ("backbone", "image_size", "d_backbone")
_MAY_DIFFER = ("context", "queue")
_MAY_BE_NEW = ("order",)
"""Parts that a start may lack: they are learned, and its other weights stay."""
_SAMPLER_KEYS = ("sampler", "sampler_layers", "sampler_states")


def load_start(recipe: Recipe) -> tuple[LvmNet, ModelCard]:
    """Return the network of the recipe's start, and its card.

    It must have the recipe's shape; if only its backbone is used, only that. Raises LvmError.
    """
    assert recipe.start is not None
    network, card = from_bundle(recipe.start) if recipe.start.is_dir() else from_checkpoint(recipe.start)
    requested, has = vars(recipe.network), vars(network.config)
    all_names = tuple(name for name in requested if name not in _MAY_DIFFER or network.config.queues)
    all_names = tuple(name for name in all_names if name not in _MAY_BE_NEW or has[name])
    only_backbone = recipe.tubedetr.optimiser.steps and not recipe.tubedetr.from_start
    names = _BACKBONE_KEYS if only_backbone else all_names
    if recipe.network.likeness and not recipe.backbone.optimiser.steps:
        names = (*names, "likeness")  # its head is learned with a backbone
    if requested["sampler"] != has["sampler"]:
        names = tuple(name for name in names if name not in _SAMPLER_KEYS)
    differing = [
        f"{name} {has[name]} instead of {requested[name]}" for name in names if has[name] != requested[name]
    ]
    if differing:
        raise LvmError(f"start {recipe.start} must be of the recipe's network, got {', '.join(differing)}")
    return network, card


def describe_start(start: LvmNet, card: ModelCard) -> dict[str, Any]:
    """Return the manifest's record of the start: its weights, and how they were trained if that is known."""
    record = card.training
    return {"weights": hash_weights(start), "recipe": record.recipe, "seed": record.seed, "data": record.data}


def strip_folders(recipe: Recipe) -> Recipe:
    """Return `recipe` for a manifest: with the start's name, not its folder."""
    if recipe.start is None:
        return recipe
    return recipe.model_copy(update={"start": Path(recipe.start.name)})


def combine_held_out(card: ModelCard, data: Data, dataset: VideoDataset) -> tuple[str, ...]:
    """Return the products that neither the start (by its `card`) nor this training has certainly seen."""
    before, now = set(card.training.held_out), set(dataset.held_out)
    # If the folder has products of the start's list, the start may have learned all others of the folder.
    if data.products is not None and before & set(list_product_photos(data.products, min_photos=0)):
        now &= before
    return tuple(sorted(now | (before - dataset.product_names())))
