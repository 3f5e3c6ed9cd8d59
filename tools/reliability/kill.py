"""What does a kill cost? `lvm-edge run` is killed at random moments and resumed, again and again.

    PYTHONPATH=. python tools/reliability/kill.py --kills 200 --folder /tmp/kills

Each time the real process is started on the same state, answers a question (the time from its start to that
answer is the time to recover), sees a frame, runs on for a random time, and gets SIGKILL; every fourth is
killed before it has said anything. Then the state is read as the next start will read it, and compared:

- bit for bit with an uninterrupted run that was fed the same frames,
- with the frames that the process said it remembered right before: frames lost.

At the end the same questions are put to the killed memory and to the uninterrupted one. The outcomes lie in
the folder, so that a broken-off test goes on where it was. The last line is JSON. Exit status 3 where a state
differed, more than one sampled frame was lost, or an answer differed.

Not covered: a power cut, which also loses what was written and not synced
(tests/persistence/test_power_cut.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from edge_runtime.config.paths import default_bundle
from edge_runtime.ingest.pipeline import Ingest, batch_size
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.persistence import load_snapshot, to_arrays
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.world import World
from edge_runtime.sources import canonicalise, open_source
from edge_runtime.sources.demo import parse_demo
from engines.bundle import Bundle
from tools.console import finish, progress, run_tool, show
from tools.demo_queries import questions

PACED_DEMO = "demo?speed=30&size=160x120"
_QUESTION = b'{"type": "object", "activity": "scan"}\n'
_PATIENCE_S = 300.0
"""A machine with other work may starve the process for long; that is not what is tested here."""


@dataclass(frozen=True)
class Outcome:
    """One kill. `told` frames that the process said it had, `kept` on disk, `recover_s` if asked."""

    told: int
    kept: int
    digest: str
    recover_s: float | None


class Uninterrupted:
    """The run that nobody kills, ingested in this process as far as somebody wants to compare."""

    def __init__(self, source: str, engines: Engines) -> None:
        network = engines.bundle.manifest.network
        self.ingest = Ingest(
            network, engines.backbone, make_sampler("neural", engines.sampler), empty_version(network)
        )
        paced = "speed=" in source
        self._source = open_source(_unpaced(source), sample_fps=network.sample_fps)
        self._frames = iter(self._source)
        self._batch = (
            (lambda pending: 1) if paced else (lambda pending: batch_size(pending, network.clip_frames))
        )
        self.digests = {0: digest_of(self.ingest.version)}
        self.versions = self._versions()

    def _versions(self) -> Iterator[Version]:
        while True:
            frames = list(islice(self._frames, self._batch(len(self.ingest.version.pending))))
            if not frames:
                return
            yield self.ingest.push(frames)

    def upto(self, frames: int) -> Version | None:
        """The version of so many frames; None where a run without kills never has exactly these."""
        while self.ingest.version.frames < frames:
            version = next(self.versions, None)
            if version is None:
                return None
            self.digests[version.frames] = digest_of(version)
        return self.ingest.version if self.ingest.version.frames == frames else None

    def digest(self, frames: int) -> str | None:
        self.upto(frames)
        return self.digests.get(frames)

    def close(self) -> None:
        self._source.close()
        self.ingest.close()


def digest_of(version: Version) -> str:
    """SHA-256 of everything that a version holds."""
    total = hashlib.sha256()
    for name, array in sorted(to_arrays(version).items()):
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    svd = version.background.svd if version.background else None
    rest = (
        version.coverage,
        version.pending_ticks,
        version.last_tick,
        version.frames,
        version.memory.version,
    )
    total.update(repr((rest, svd and (svd.rows_effective, svd.updates))).encode())
    return total.hexdigest()


def kill_once(state: Path, source: str, rng: random.Random, longest_s: float) -> Outcome:
    """Start the process on the state, kill it at a random moment and look at what is there."""
    silent = rng.random() < 0.25
    command = [
        sys.executable,
        "-m",
        "edge_runtime.interfaces.cli.main",
        "run",
        "--source",
        source,
        "--state",
        str(state),
    ]
    command += ["--backend", "onnxruntime", "--no-http", "--json"]
    started = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        told, recover = 0, None
        try:
            if silent:
                time.sleep(rng.uniform(0, 3))
            else:
                resumed = _ask(process)
                recover = time.monotonic() - started
                while time.monotonic() - started < _PATIENCE_S and _ask(process) == resumed:
                    time.sleep(0.05)  # until it has seen something itself
                time.sleep(rng.uniform(0, longest_s))
                told = _ask(process)
                time.sleep(rng.uniform(0, 0.05))
        finally:
            process.kill()
    saved = load_snapshot(state)
    version = saved.version if saved else None
    return Outcome(told, version.frames if version else 0, digest_of(version) if version else "", recover)


def _ask(process: subprocess.Popen[bytes]) -> int:
    """Frames that the process remembers, by its own word. Raises RuntimeError where it says nothing."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(_QUESTION)
    if not select.select([process.stdout], [], [], _PATIENCE_S)[0]:
        raise RuntimeError(f"no answer in {_PATIENCE_S} s")
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise RuntimeError(f"the process ended: {process.stderr.read().decode(errors='replace')[-500:]}")
    return round(json.loads(line)["coverage"]["to"] or 0)


def equal_answers(engines: Engines, source: str, killed: Version, whole: Version) -> tuple[int, int]:
    """Questions asked of both, and how many had the same answer to the last digit."""
    manifest = engines.bundle.manifest
    objects = ObjectEncoder(
        engines.backbone, manifest.network.image_size, frame_at=_no_picture, catalogue=None
    )
    world = World(parse_demo(source).config)
    asked = [query for kind in questions(world, manifest).values() for query in kind]
    one, two = (Asker(manifest, engines.reader, objects).ask_all(asked, v) for v in (killed, whole))
    same = sum(
        a.model_copy(update={"milliseconds": 0.0}) == b.model_copy(update={"milliseconds": 0.0})
        for a, b in zip(one, two, strict=True)
    )
    return len(asked), same


def _no_picture(t: float) -> object:
    raise AssertionError(f"no question is about a picture, got one at {t}")


def _unpaced(source: str) -> str:
    """The same pictures, as fast as they are taken."""
    name, _, settings = source.partition("?")
    rest = [one for one in settings.split("&") if one and not one.startswith("speed=")]
    return "?".join([name, *filter(None, ["&".join(rest)])])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True, help="where the state and the outcomes lie")
    parser.add_argument("--source", default=PACED_DEMO, help="a demo, or a video file at one frame a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=2.0, help="seconds that a process lives after its answer"
    )
    given = parser.parse_args()
    result = kill(given.kills, given.folder, canonicalise(given.source), given.seed, given.longest)
    finish(result)
    return 0 if result["passed"] else 3


def kill(kills: int, folder: Path, source: str, seed: int = 0, longest_s: float = 2.0) -> dict[str, object]:
    """Kill so often in all, compare, and say what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / "outcomes.jsonl"
    done = (
        [Outcome(**json.loads(line)) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    )
    with progress(kills - len(done)) as step, ledger.open("a") as file:
        for i in range(len(done), kills):
            outcome = kill_once(folder / "state", source, random.Random(f"{seed} {i}"), longest_s)
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
            done.append(outcome)
            step(f"{outcome.kept} frames")
    return _judged(done, folder / "state", source)


def _judged(done: list[Outcome], state: Path, source: str) -> dict[str, object]:
    engines = Engines.load(Bundle.open(default_bundle()), "onnxruntime")
    run = Uninterrupted(source, engines)
    try:
        wrong = [i for i, one in enumerate(done) if one.digest and run.digest(one.kept) != one.digest]
        # What was on disk once must never be away again.
        shrunk = sum(after.kept < before.kept for before, after in zip(done, done[1:], strict=False))
        lost = [max(0, one.told - one.kept) for one in done]
        saved = load_snapshot(state)
        asked, same = 0, 0
        if saved is not None and source.startswith("demo") and run.upto(saved.version.frames) is not None:
            asked, same = equal_answers(engines, source, saved.version, run.ingest.version)
    finally:
        run.close()
        engines.close()
    waits = [one.recover_s for one in done if one.recover_s is not None]
    result: dict[str, object] = {
        "kills": len(done),
        "silent": len(done) - len(waits),
        "frames": done[-1].kept,
        "states_wrong": wrong,
        "states_shrunk": shrunk,
        "frames_lost": {str(n): lost.count(n) for n in sorted(set(lost))},
        "recover_s": {"median": round(median(waits), 3), "worst": round(max(waits), 3)} if waits else None,
        "answers": {"asked": asked, "equal": same},
    }
    result["passed"] = not wrong and not shrunk and max(lost) <= 1 and asked == same
    show(f"{len(done)} kills of {source}", ("what", "is"), [[k, str(v)] for k, v in result.items()])
    return result


if __name__ == "__main__":
    run_tool(main)
