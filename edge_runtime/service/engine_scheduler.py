"""One set of engines for several cameras: one call at a time, in turn, and what waits together goes together.

Each camera asks for its engine calls through a lane of its own, which has at most one call waiting. So the
order of arrival is taking turns: before a camera is served a second time, everyone who waits is served once,
whatever the others' rates are, and nobody waits longer than one call of each other camera.

There is no thread here. Who is at the head of the queue makes the call, for itself and for those behind it
whose single live frames fit into the same batch; with one camera that costs nothing at all.

Questions do not wait for frames: their calls go past the queue, one at a time. More at once gain nothing on a
device's few cores, and a backend keeps memory for as many calls as it ever ran side by side.

A call that fails is made once more. Frames of several cameras that failed together are tried again apart, so
that one camera's picture cannot lose another's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.ingest.pipeline import BATCH_FRAMES
from edge_runtime.service.engine_set import Engines
from edge_runtime.system.errors import CallAbandoned
from engines.errors import EngineFault
from engines.spec import Array, Engine, Feeds


@dataclass(eq=False)
class _Call:
    """One engine call that somebody waits for, and what came of it."""

    lane: Lane
    engine: Engine
    feeds: Feeds
    joins: bool
    done: bool = False
    outputs: dict[str, Array] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def frames(self) -> int:
        return len(next(iter(self.feeds.values())))


class Turns:
    """Engines that several cameras share. Lanes may be opened at any time, from any thread."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.calls = 0
        """Backend calls so far, and the frames in those that several cameras shared."""
        self.shared_frames = 0
        asking = threading.Lock()
        self.asked_backbone: Engine = _InTurn(engines.backbone, lambda e, feeds: _alone(asking, e, feeds))
        self.asked_reader: Engine = _InTurn(engines.reader, lambda e, feeds: _alone(asking, e, feeds))
        """What questions call, of whatever camera."""
        self._change = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._busy = False

    def lane(self, name: str) -> Lane:
        """A camera's way to the engines."""
        return Lane(self, name)

    def make(self, call: _Call) -> dict[str, Array]:
        """The call's outputs, when its turn has come. Raises what the engine raised, and CallAbandoned."""
        with self._change:
            if call.lane.left:
                raise CallAbandoned(f"{call.lane.name} was left")
            self._waiting.append(call)
            self._change.wait_for(lambda: call.done or (not self._busy and self._waiting[0] is call))
            if not call.done:
                group = self._with_those_that_join(self._waiting.popleft())
                self._busy = True
        if not call.done:
            self._serve(group)
        if call.error is not None:
            raise call.error
        return call.outputs

    def give_up(self, lane: Lane) -> None:
        """Drop what the lane waits for, so that a camera that is stopped need not wait for the others."""
        with self._change:
            lane.left = True
            for call in [call for call in self._waiting if call.lane is lane]:
                self._waiting.remove(call)
                call.done, call.error = True, CallAbandoned(f"{lane.name} was left")
            self._change.notify_all()

    def _with_those_that_join(self, first: _Call) -> list[_Call]:
        group = [first]
        if not first.joins:
            return group
        room = BATCH_FRAMES - first.frames
        for other in list(self._waiting):
            if other.joins and other.engine is first.engine and other.frames <= room:
                room -= other.frames
                self._waiting.remove(other)
                group.append(other)
        return group

    def _serve(self, group: Sequence[_Call]) -> None:
        try:
            self._run(group)
        finally:
            with self._change:
                self._busy = False
                for call in group:
                    call.done = True
                self._change.notify_all()

    def _run(self, group: Sequence[_Call]) -> None:
        try:
            self._run_once(group)
            return
        except EngineFault:
            for call in group:
                call.lane.faults += 1
        except Exception as error:  # wrong feeds: trying again would not make them right
            for call in group:
                call.error = error
            return
        for call in group:
            try:
                self._run_once([call])
            except Exception as error:
                call.lane.faults += isinstance(error, EngineFault)
                call.error = error

    def _run_once(self, group: Sequence[_Call]) -> None:
        self.calls += 1
        if len(group) == 1:
            group[0].outputs = group[0].engine(group[0].feeds)
            return
        names = group[0].feeds
        outputs = group[0].engine({n: np.concatenate([call.feeds[n] for call in group]) for n in names})
        first = 0
        for call in group:
            last = first + call.frames
            call.outputs = {name: array[first:last] for name, array in outputs.items()}
            first = last
        self.shared_frames += first


def _alone(asking: threading.Lock, engine: Engine, feeds: Feeds) -> dict[str, Array]:
    with asking:
        return engine(feeds)


class Lane:
    """One camera's engines. `backbone` and `sampler` are called like the real ones, and wait for their turn.

    `joins` says whether this camera's pictures may share a backbone call with those of others. A file's never
    do: its batches are full anyway, and must have the same shape whether the run was interrupted or not.
    """

    def __init__(self, turns: Turns, name: str) -> None:
        self.name = name
        self.joins = False
        self.left = False
        """While true, calls raise CallAbandoned."""
        self.faults = 0
        """Engine calls with something of this camera in them that failed, retries among them."""
        self._turns = turns
        engines = turns.engines
        self.backbone: Engine = _InTurn(engines.backbone, self._waiter(turns, lambda: self.joins))
        self.sampler: Engine = _InTurn(engines.sampler, self._waiter(turns, lambda: False))

    def leave(self) -> None:
        """Give up the calls that wait, and those to come until `left` is cleared."""
        self._turns.give_up(self)

    def _waiter(self, turns: Turns, joins: Callable[[], bool]) -> Callable[[Engine, Feeds], dict[str, Array]]:
        return lambda engine, feeds: turns.make(_Call(self, engine, feeds, joins()))


class _InTurn(Engine):
    """An engine that is called when its camera's turn has come."""

    def __init__(self, engine: Engine, make: Callable[[Engine, Feeds], dict[str, Array]]) -> None:
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self._engine, self._make = engine, make

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        return self._make(self._engine, feeds)
