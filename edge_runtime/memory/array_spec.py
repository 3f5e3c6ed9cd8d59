"""How one array of a state looks: what a file is checked against before anything is done with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.spec import Array


@dataclass(frozen=True)
class Kept:
    """Type, shape and greatest magnitude of an array that a state keeps or a journal records."""

    dtype: type[np.generic]
    shape: tuple[int, ...]
    limit: float

    def zeros(self) -> Array:
        """The array before anything was seen; not to be written into."""
        array: Array = np.zeros(self.shape, self.dtype)
        array.flags.writeable = False
        return array
