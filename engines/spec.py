"""Define the contract of execution backends: named tensors in, named tensors out, checked before the backend.

Adding a backend means subclassing `Engine` with one method, `_run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineFault, LvmError, first_line

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of a graph's input or output.

    A string in `shape` is a free dimension; equal strings must have equal sizes within one call.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}({', '.join(map(str, self.shape))})"


class Engine(ABC):
    """One graph, loaded and ready to run.

    Calls may come from several threads at once. Outputs belong to the caller: no backend reuses them.
    """

    backend: str
    """What runs the graph, for people: "onnxruntime CPU", "OpenVINO CPU f32"."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """Run the graph. Raises ValueError, naming the tensor, before the backend sees wrong feeds.

        Raises EngineFault when the backend fails.
        """
        check_feeds(self.inputs, feeds)
        return self.run_checked(feeds)

    def run_checked(self, feeds: Feeds) -> dict[str, Array]:
        """Run feeds that `check_feeds` has passed already. Raises EngineFault when the backend fails."""
        try:
            return self._run(feeds)
        except (LvmError, ValueError):
            raise
        except Exception as error:  # the backends' exceptions share no base
            raise EngineFault(f"{self.backend} failed: {first_line(error)}") from error

    @abstractmethod
    def _run(self, feeds: Feeds) -> dict[str, Array]:
        """Run checked feeds; return fresh arrays, one for each of `outputs`."""

    def close(self) -> None:
        """Release what the backend holds. A closed engine must not be called."""
        return None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_feeds(specs: tuple[TensorSpec, ...], feeds: Feeds) -> None:
    """Raise ValueError unless `feeds` has exactly the named tensors, with their dtypes and shapes."""
    names = {spec.name for spec in specs}
    if names != set(feeds):
        raise ValueError(
            f"feeds must be {sorted(names)}, got {sorted(feeds)}: "
            f"missing {sorted(names - set(feeds))}, unknown {sorted(set(feeds) - names)}"
        )
    free: dict[str, tuple[int, str]] = {}
    for spec in specs:
        array = feeds[spec.name]
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{spec} expected, got {type(array).__name__}")
        if array.dtype.name != spec.dtype or array.ndim != len(spec.shape):
            raise ValueError(f"{spec} expected, got {array.dtype.name}{array.shape}")
        for expected, got in zip(spec.shape, array.shape, strict=True):
            if isinstance(expected, int):
                if expected != got:
                    raise ValueError(f"{spec} expected, got {array.dtype.name}{array.shape}")
            elif free.setdefault(expected, (got, spec.name))[0] != got:
                first, where = free[expected]
                raise ValueError(f"{spec}: {expected} is {first} in {where}, got shape {array.shape}")
