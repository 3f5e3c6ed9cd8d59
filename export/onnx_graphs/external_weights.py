"""Read and write `weights.safetensors`: one copy of the parameters, which every graph of a bundle points
into."""

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
from export.onnx_graphs.weight_only import ROUNDED, SCALE, restore_fp32, round_to_int8

WEIGHTS = "weights.safetensors"
_ADDED_LAYERS = ("reader.heads.places.outline.",)
"""Layers that older networks lack; the last layer of each begins at zero."""


@dataclass(frozen=True)
class ByteRange:
    """Where a tensor's bytes are in the file."""

    offset: int
    length: int


def save_weights(network: LvmNet, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write all parameters and persistent buffers, named `backbone.…`, `sampler.…`, `reader.…`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors unchanged."""
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def select_tensors(network: LvmNet, names: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors that the weights file of a bundle holds so that its graphs find all of `names`.

    Names that end with `HALF` are needed in half precision, those that end with `ROUNDED` in eight bits. A
    parameter that no graph needs in full is stored only in that form, which makes such a bundle small.
    Buffers that are in no graph stay.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        tensor, half = tensor.detach().cpu(), name + HALF in names
        if name + ROUNDED in names:
            values, scale = round_to_int8(tensor.numpy())
            out[name + ROUNDED], out[name + SCALE] = torch.from_numpy(values), torch.from_numpy(scale)
            if name not in names:
                continue
        if half and name not in names:
            out[name] = tensor.half()
        else:
            out[name] = tensor
            if half:
                out[name + HALF] = tensor.half()
    return out


def load_weights(config: NetworkConfig, data: bytes, origin: str) -> LvmNet:
    """Build the network of `config` with the weights in `data`, in evaluation mode.

    Raises BundleError, naming `origin` and the keys, unless they fit exactly.
    """
    with torch.device("meta"):
        network = LvmNet(config)
    state = _fill_added_layers(_restore_fp32(safetensors.torch.load(data)), config)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    if wrong:
        raise BundleError(
            f"weights of {origin} do not fit its network: {len(wrong)} tensors are missing, unknown or of "
            f"another shape, among them {', '.join(wrong[:5])}"
        )
    # Built on a real device: buffers that are not weights (codes, normalisation) exist only then.
    with torch.random.fork_rng(devices=[]):
        network = LvmNet(config)
    network.load_state_dict(state)
    return network.eval()


def _fill_added_layers(state: dict[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Add the `_ADDED_LAYERS` that the weights were trained without: they add zero, so answers stay
    the same."""
    lacked = tuple(part for part in _ADDED_LAYERS if not any(name.startswith(part) for name in state))
    if not lacked:
        return state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = LvmNet(config).state_dict()
    return state | {name: tensor for name, tensor in fresh.items() if name.startswith(lacked)}


def _restore_fp32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of a weights file under their own names, those in eight bits restored to fp32."""
    out = {name: tensor for name, tensor in state.items() if not name.endswith((HALF, ROUNDED, SCALE))}
    for name, tensor in state.items():
        own, scale = name.removesuffix(ROUNDED), state.get(name.removesuffix(ROUNDED) + SCALE)
        if own != name and scale is not None:
            out.setdefault(own, torch.from_numpy(restore_fp32(tensor.numpy(), scale.numpy())))
    return out


def read_byte_ranges(path: Path) -> dict[str, ByteRange]:
    """Return offset and length of every tensor of a safetensors file, counted from the start of the file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: ByteRange(
            8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }


def select_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def hash_weights(network: nn.Module) -> str:
    """Return a digest that identifies a network by its weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
