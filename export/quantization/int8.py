"""Eight-bit graphs: each engine's own quantiser, because none reads well what another has written.

onnxruntime gets Q/DQ pairs from its own static quantiser (`int8_onnxruntime`), OpenVINO its intermediate
representation from nncf (`int8_openvino`): onnxruntime's Q/DQ file, read by OpenVINO, was wrong (cosine
0.93). Such graphs carry their weights.

Only products with a parameter may become eight bits. A product of two activations (attention) stays as it is,
as it does inside onnxruntime's fused attention, and so do the last products before scores, places and spans.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from engines.spec import Array, Engine
from export.onnx_graphs.fp32_islands import PRODUCTS, makers_of_scores, products_of, users_of

Feeds = Sequence[dict[str, Array]]


@dataclass(frozen=True)
class Quantised:
    """An int8 graph and, where they are a file of their own, its weights."""

    graph: bytes
    weights: bytes | None = None


class Quantiser(Protocol):
    """Makes eight-bit forms of one graph, whose ranges were measured once."""

    @property
    def parameters(self) -> Sequence[str]:
        """Parameters whose products may become eight bits."""

    def quantised(self, keep: Collection[str] = ()) -> Quantised:
        """All of them but the products of `keep`."""

    def load(self, quantised: Quantised) -> Engine:
        """An engine that runs it on this machine."""


@dataclass(frozen=True)
class Operators:
    """Which products of a graph may become eight bits: parameter -> names of the products that take it.

    `fixed` are names of the products that may not.
    """

    free: dict[str, tuple[str, ...]]
    fixed: tuple[str, ...]

    @classmethod
    def of(cls, graph: Path, keep: Sequence[str]) -> Operators:
        """Of the ONNX file `graph`; `keep` are patterns (fnmatch) of parameters that stay fp32."""
        model = ir.load(graph)
        islands = {str(node.name) for node in makers_of_scores(model.graph) | users_of(model.graph, keep)}
        free = {
            parameter: names
            for parameter, names in products_of(model.graph).items()
            if not islands & set(names)
        }
        named = {name for names in free.values() for name in names}
        every = [str(node.name) for node in model.graph if node.op_type in PRODUCTS]
        return cls(free, tuple(name for name in every if name not in named))

    def kept(self, keep: Collection[str]) -> list[str]:
        """Names of the products that stay fp32 where the parameters `keep` do too."""
        return [
            *self.fixed,
            *(name for parameter in self.free if parameter in keep for name in self.free[parameter]),
        ]
