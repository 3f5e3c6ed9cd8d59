"""Plan which precision each graph of a bundle gets, and why.

fp16 is typed into the graph, int8 is quantised for each engine by its own tool. bf16 is OpenVINO's own: the
graph stays fp32 and the manifest tells the engine what to compute in. A target that lacks a precision stays
fp32 and the manifest says why, unless a person asked for exactly that pair. w8 is fp32 from weights of eight
bits: smaller, but not faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import LvmError
from engines.manifest import GRAPHS, GraphName, Precision, Target

PRECISIONS = ("fp32", "fp16", "bf16", "w8", "int8", "auto")
TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino", "tensorrt")
DEFAULT_TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")
SUPPORTED: dict[Target, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32", "fp16", "w8", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "w8", "int8"),
    "tensorrt": ("fp32", "fp16"),
}


@dataclass(frozen=True)
class Choice:
    """The precision of one graph on one target."""

    precision: Precision
    why: str


@dataclass(frozen=True)
class Plan:
    """The request: `precision` ("auto": by measurement) for `targets`, `keep` patterns of fp32 parameters.

    `calibration` are sources for int8: demo, videos or folders; `auto` tries int8 where there are some.
    `explicit`: a person named the targets, so a target that lacks the precision is an error.
    """

    precision: str = "fp32"
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    keep: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    explicit: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise LvmError(f"--precision must be one of {', '.join(PRECISIONS)}, got {self.precision}")
        if self.precision == "int8" and not self.calibration:
            raise LvmError(
                "--precision int8 needs --calibration: a video, a folder of pictures or videos, or demo, "
                "as much like the shop as can be had"
            )
        if self.precision not in ("auto", "int8") and self.calibration:
            raise LvmError(f"--calibration is for int8 and auto, got --precision {self.precision}")
        lacking = [target for target in self.targets if self.precision not in (*SUPPORTED[target], "auto")]
        if lacking and (self.explicit or len(lacking) == len(self.targets)):
            raise LvmError(
                f"{lacking[0]} has no {self.precision}; it knows {', '.join(SUPPORTED[lacking[0]])}. "
                "Choose another --precision or --target"
            )

    def choices(self) -> dict[tuple[Target, GraphName], Choice]:
        """Choose for each graph; with "auto", before anything is measured, fp32."""
        return {(target, name): self._choose(target, name) for target in self.targets for name in GRAPHS}

    def candidates(self, target: Target) -> tuple[Precision, ...]:
        """Return what "auto" may choose from, fp32 first: w8 is left out because it is no faster
        than fp32."""
        return tuple(
            precision
            for precision in SUPPORTED[target]
            if precision != "w8" and (precision != "int8" or self.calibration)
        )

    def _choose(self, target: Target, name: GraphName) -> Choice:
        if (self.precision, name) == ("bf16", "reader"):
            # OpenVINO lowers the phases of the tick code too: 5 of 100 answers changed (docs/lab/gates.md).
            return Choice("fp32", "ticks need more than the eight bits of bf16")
        for known in SUPPORTED[target]:
            if known == self.precision:
                return Choice(known, "asked for")
        return Choice("fp32", "" if self.precision == "auto" else f"{target} has no {self.precision}")
