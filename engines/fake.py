"""Make an engine of a callable, for tests and for users who want to see the runtime's feeds."""

from __future__ import annotations

from collections.abc import Callable

from engines.spec import Array, Engine, Feeds, TensorSpec


class FakeEngine(Engine):
    """Calls `function(feeds)`; feeds are checked as for every engine."""

    backend = "fake"

    def __init__(
        self,
        function: Callable[[Feeds], dict[str, Array]],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._function = function

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        return self._function(feeds)
