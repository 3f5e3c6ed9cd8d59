"""Import timm beside a CPU-only torch, where torchvision's compiled operators may be missing and its import
fails.

torchvision registers shape rules for `torchvision::nms` while it is imported; where its compiled library does
not load (the PyPI wheel beside a CPU torch), the operator does not exist and the import stops. Declaring the
schemas first is enough: nothing in this project calls them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_SCHEMAS = (
    ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
)


def import_timm() -> ModuleType:
    """Import timm, also where torchvision's compiled operators are missing."""
    import_torchvision()
    return importlib.import_module("timm")


def import_torchvision() -> ModuleType:
    """Import torchvision likewise: its networks in Python work, its own operators may not."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        # The library keeps the schemas registered for as long as it is referenced: the module holds it.
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name, schema in _SCHEMAS:
            if not hasattr(torch.ops.torchvision, name):
                library.define(name + schema)  # type: ignore[no-untyped-call]
        torchvision = importlib.import_module("torchvision")
        torchvision._lvm_edge_operators = library  # type: ignore[attr-defined]
        return torchvision
