"""Keep the fp32 graphs that a test run has made, for all of its processes.

A graph is a pure function of network, weights and target (tests/export/test_graphs.py), and takes seconds.
Most tests that write a bundle test what happens around it, with the same few networks.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch

from engines.manifest import GraphName, Target
from engines.network_config import NetworkConfig
from export.networks.model import LvmNet
from export.onnx_graphs import build
from export.quantization import variants


class _Untraced:
    """Stands for the traced program of one network until a graph is missing."""

    def __init__(self, network: LvmNet, name: GraphName, trace: Callable[..., Any]) -> None:
        self.key = _digest(network.part(name))
        self.program = functools.cache(lambda: trace(network, name))


def share_graphs(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make what writes bundles look for its graphs in `folder` first."""
    trace, lower, attention = variants.trace, variants.lower, build.select_attention

    def find(traced: _Untraced, config: NetworkConfig, name: GraphName, target: Target) -> Any:
        text = f"{traced.key} {config.model_dump_json()} {name} {target}"
        file = folder / hashlib.sha256(text.encode()).hexdigest()
        if build.select_attention is not attention:  # a test's own
            return lower(traced.program(), config, name, target)
        if not file.exists():
            model = lower(traced.program(), config, name, target)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(ir.to_proto(model).SerializeToString())
            part.replace(file)
        return ir.from_proto(onnx.load_from_string(file.read_bytes()))

    patch.setattr(variants, "trace", lambda network, name: _Untraced(network, name, trace))
    patch.setattr(variants, "lower", find)


def _digest(part: torch.nn.Module) -> str:
    """Return a digest of what a graph is made from: modules, their settings, and weights."""
    digest = hashlib.sha256(repr(part).encode())
    for name, tensor in part.state_dict().items():
        digest.update(name.encode() + pickle.dumps((tuple(tensor.shape), str(tensor.dtype))))
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for name, buffer in part.named_buffers():  # also those that no state has
        digest.update(name.encode() + buffer.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
