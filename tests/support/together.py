"""Run tests that mostly wait in parallel; each stays a test of its own, with its name and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from tests.support.stalls import retry_if_stalled

WORKERS = 6


class ParallelTests:
    """Collects test bodies by decoration; `outcomes` runs those that were selected, six at a time."""

    def __init__(self) -> None:
        self.bodies: dict[str, Callable[[], None]] = {}

    def __call__(self, body: Callable[[], None]) -> Callable[[], None]:
        self.bodies[body.__name__] = body
        return body

    def each(self, **cases: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register the body for several values, one test each, named by the keyword."""

        def register(body: Callable[..., None]) -> Callable[..., None]:
            for name, value in cases.items():
                self.bodies[f"{body.__name__}-{name}"] = partial(body, value)
            return body

        return register

    def outcomes(self, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
        """Yield the outcome of each selected body, by its name, for a module's fixture."""
        items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
        specs = [spec for item in items if (spec := getattr(item, "callspec", None)) is not None]
        names = [spec.params["body"] for spec in specs if spec.params.get("body") in self.bodies]
        with ThreadPoolExecutor(WORKERS) as pool:
            yield {name: pool.submit(retry_if_stalled, self.bodies[name], name) for name in names}
