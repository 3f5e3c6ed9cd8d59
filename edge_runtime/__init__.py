"""lvm-edge on the device; `from edge_runtime import Memory` is for scripts and notebooks (docs/python.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.interfaces.python.memory import Memory as Memory

__all__ = ["Memory"]


def __getattr__(name: str) -> Any:
    """`Memory` when it is asked for: the command line imports this package too, and must start fast."""
    if name == "Memory":
        from edge_runtime.interfaces.python.memory import Memory

        return Memory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
