"""Which precision each graph of a bundle gets, and why.

fp16 is typed into the graph. bf16 is OpenVINO's own: the graph stays fp32 and the manifest tells the engine what
to compute in. A target that does not know a precision keeps fp32 and the manifest says why, unless a person asked
for just that pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.errors import LvmError
from engines.manifest import GraphName, Precision, Target

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
_KNOWN: dict[Target, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32", "fp16"),
    "openvino": ("fp32", "fp16", "bf16"),
    "tensorrt": ("fp32", "fp16"),
}


@dataclass(frozen=True)
class Choice:
    """What one graph of one target is computed in."""

    precision: Precision
    why: str


@dataclass(frozen=True)
class Plan:
    """What is asked for: `precision` for all graphs of `targets`; `keep` are patterns of fp32 parameters.

    `named`: the targets were named by a person, so one that lacks the precision is an error.
    """

    precision: Precision = "fp32"
    targets: tuple[Target, ...] = ("onnxruntime", "openvino")
    keep: tuple[str, ...] = ()
    named: bool = False
    chosen: dict[tuple[Target, GraphName], Choice] = field(default_factory=dict)
    """What measurement chose for a graph instead."""

    def __post_init__(self) -> None:
        for target in self.targets:
            if self.named and self.precision not in _KNOWN[target]:
                raise LvmError(
                    f"{target} has no {self.precision}; it knows {', '.join(_KNOWN[target])}. Choose another "
                    "--precision or --target"
                )
        if self.precision == "bf16" and "openvino" not in self.targets:
            raise LvmError(f"bf16 needs the target openvino, got {', '.join(self.targets)}")

    def of(self, target: Target, name: GraphName) -> Choice:
        """What a graph gets."""
        if (target, name) in self.chosen:
            return self.chosen[target, name]
        if self.precision in _KNOWN[target]:
            return Choice(self.precision, "asked for")
        return Choice("fp32", f"{target} has no {self.precision}")


def fp32(targets: Sequence[Target]) -> Plan:
    """Everything as it was trained."""
    return Plan(targets=tuple(targets))
