"""Load what an export starts from: a training checkpoint, a bundle, or a preset with untrained weights.

A checkpoint is one safetensors file: the weights of the whole network, and in its metadata the JSON texts
`network` (NetworkConfig), `classes` (a list of ActivityClass), `training` (TrainingRecord), and where known
`name`, `thresholds` (Thresholds) and `attributions` (a list of texts).
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from engines.bundle import Bundle
from engines.errors import BundleError, LvmError
from engines.manifest import ActivityClass, Thresholds, TrainingRecord
from engines.network_config import ContextName, NetworkConfig
from export.bundle.class_embeddings import describe_classes
from export.bundle.presets import load_preset
from export.bundle.writer import ModelCard, load_network, make_card
from export.networks.model import LvmNet, make_untrained
from export.onnx_graphs.external_weights import load_weights, save_weights
from export.support.errors import first_complaint

_CLASSES = TypeAdapter(tuple[ActivityClass, ...])
_LINES = TypeAdapter(tuple[str, ...])


def save_checkpoint(network: LvmNet, card: ModelCard, path: Path) -> None:
    """Write a file that `from_checkpoint` reads."""
    metadata = {
        "name": card.name,
        "network": network.config.model_dump_json(),
        "classes": _CLASSES.dump_json(card.classes).decode(),
        "training": card.training.model_dump_json(),
        "thresholds": card.thresholds.model_dump_json(),
        "attributions": json.dumps(card.attributions),
    }
    save_weights(network, path, metadata)


def from_checkpoint(path: Path) -> tuple[LvmNet, ModelCard]:
    """Load the network and card of a checkpoint; without a name in it, the file's name is taken. Raises
    LvmError."""
    if not path.is_file():
        raise LvmError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        config = NetworkConfig.model_validate_json(metadata["network"])
        classes = _CLASSES.validate_json(metadata["classes"])
        training = TrainingRecord.model_validate_json(metadata["training"])
        thresholds = Thresholds.model_validate_json(metadata.get("thresholds", "{}"))
        attributions = _LINES.validate_json(metadata.get("attributions", "[]"))
    except SafetensorError as error:
        raise BundleError(f"checkpoint {path} must be a .safetensors file: {error}") from error
    except KeyError as error:
        raise BundleError(
            f"checkpoint {path} must have network, classes and training in its metadata, lacks {error}"
        ) from error
    except ValidationError as error:
        raise BundleError(
            f"checkpoint {path}: metadata {error.title} is wrong: {first_complaint(error)}"
        ) from error
    network = load_weights(config, path.read_bytes(), f"checkpoint {path}")
    name = metadata.get("name", path.stem)
    return network, ModelCard(name, classes, training, thresholds, attributions=attributions)


def from_bundle(path: Path) -> tuple[LvmNet, ModelCard]:
    """Load the network and card of a bundle. Raises BundleError."""
    bundle = Bundle.open(path)
    return load_network(bundle), make_card(bundle.manifest)


def from_preset(
    name: str, seed: int, context: tuple[ContextName, ...] | None = None, sampler: str | None = None
) -> tuple[LvmNet, ModelCard]:
    """Make an untrained network, with `context` or `sampler` in place of the preset's where given. Its bundle
    says that it is untrained, and marks every answer."""
    config = load_preset(name)
    overrides = {"context": context, "sampler": sampler}
    if changes := {key: value for key, value in overrides.items() if value is not None}:
        config = NetworkConfig.model_validate(config.model_dump() | changes)
    training = TrainingRecord(trained=False, recipe="initialised", seed=seed)
    network, classes = make_untrained(config, seed), preset_classes(name, config.activities)
    describe_classes(network.reader, classes)
    return network, ModelCard(name, classes, training)


def preset_classes(name: str, count: int) -> tuple[ActivityClass, ...]:
    """Return the checkout's activities for `tiny` and `lite`, numbered ones for the others, whose data set
    names its own."""
    if name in ("tiny", "lite"):
        from edge_runtime.simulation.activities import ACTIVITIES  # brings the world's renderer with it

        return tuple(ActivityClass(**activity._asdict()) for activity in ACTIVITIES)
    return tuple(
        ActivityClass(name=f"activity_{index}", doing=f"doing activity {index}") for index in range(count)
    )
