"""`weights.safetensors`: one copy of the parameters, which every graph of a bundle points into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from engines.errors import BundleError
from engines.network_config import NetworkConfig
from export.networks.model import LvmNet
from export.onnx_graphs.fp16 import HALF
from export.onnx_graphs.weight_only import ROUNDED, SCALE, restored, rounded

WEIGHTS = "weights.safetensors"
_LATER = ("reader.heads.places.outline.",)
"""What networks did not have at first; its last layer begins at zero."""


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie in the file."""

    offset: int
    length: int


def save_weights(network: LvmNet, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write all parameters and persistent buffers, named `backbone.…`, `sampler.…`, `reader.…`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as they are."""
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def stored(network: LvmNet, wanted: Collection[str]) -> dict[str, Tensor]:
    """What the weights file of a bundle holds so that graphs find all of `wanted`.

    Names that end with `HALF` are wanted in half precision, those that end with `ROUNDED` in eight bits. A
    parameter that no graph wants in full is stored so only, which is what makes such a bundle small; buffers
    that no graph has stay.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        tensor, half = tensor.detach().cpu(), name + HALF in wanted
        if name + ROUNDED in wanted:
            values, scale = rounded(tensor.numpy())
            out[name + ROUNDED], out[name + SCALE] = torch.from_numpy(values), torch.from_numpy(scale)
            if name not in wanted:
                continue
        if half and name not in wanted:
            out[name] = tensor.half()
        else:
            out[name] = tensor
            if half:
                out[name + HALF] = tensor.half()
    return out


def load_weights(config: NetworkConfig, data: bytes, origin: str) -> LvmNet:
    """The network of `config` with the weights in `data`, in evaluation mode.

    Raises BundleError, naming `origin` and the keys, unless they fit exactly.
    """
    with torch.device("meta"):
        network = LvmNet(config)
    state = _with_later(_in_full(safetensors.torch.load(data)), config)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if wrong:
        raise BundleError(
            f"weights of {origin} do not fit its network: {len(wrong)} tensors are missing, unknown or of "
            f"another shape, among them {', '.join(wrong[:5])}"
        )
    # Built for real, as buffers that are no weights (codes, normalisation) exist only then.
    with torch.random.fork_rng(devices=[]):
        network = LvmNet(config)
    network.load_state_dict(state)
    return network.eval()


def _with_later(state: dict[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """What was trained before there was one of `_LATER`: that says nothing yet, so answers stay the same."""
    lacked = tuple(part for part in _LATER if not any(name.startswith(part) for name in state))
    if not lacked:
        return state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = LvmNet(config).state_dict()
    return state | {name: tensor for name, tensor in fresh.items() if name.startswith(lacked)}


def _in_full(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a weights file under their own names, those in eight bits multiplied out."""
    out = {name: tensor for name, tensor in state.items() if not name.endswith((HALF, ROUNDED, SCALE))}
    for name, tensor in state.items():
        own, scale = name.removesuffix(ROUNDED), state.get(name.removesuffix(ROUNDED) + SCALE)
        if own != name and scale is not None:
            out.setdefault(own, torch.from_numpy(restored(tensor.numpy(), scale.numpy())))
    return out


def places(path: Path) -> dict[str, Place]:
    """Offset and length of every tensor of a safetensors file, counted from the file's beginning."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: Place(8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
    }


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def weights_digest(network: nn.Module) -> str:
    """Names a network by its weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
