"""Measure what a kill costs: `lvm-edge run` is killed at random moments and resumed, again and again.

    PYTHONPATH=. python tools/reliability/kill.py --kills 200 --folder /tmp/kills

Each time the real process starts on the same state, answers a question (the time from its start to that
answer is the time to recover), ingests a frame, runs on for a random time, and gets SIGKILL; every fourth is
killed before it has answered anything. Then the state is read as the next start will read it, and compared:

- bit for bit with an uninterrupted run over the same frames,
- with the number of frames that the process reported right before: frames lost.

At the end the same questions are put to the killed memory and to the uninterrupted one. The outcomes are in
the folder, so that a test that was stopped continues there. The last line is JSON. Exit status 3 where a
state differed, more than one sampled frame was lost, or an answer differed.

Not covered: a power cut, which also loses what was written but not synced
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
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import Ingest, batch_size
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.persistence import load_snapshot, to_arrays
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.world import World
from edge_runtime.sources import canonicalise, open_source
from edge_runtime.sources.demo import parse_demo
from engines.bundle import Bundle
from engines.manifest import Manifest
from tools.console import finish, progress, run_tool, show

PACED_DEMO = "demo?speed=30&size=160x120"
_QUESTION = b'{"type": "object", "activity": "scan"}\n'
_TIMEOUT_S = 300.0
"""A machine with other work may starve the process for long, which is not what is tested here."""
_KEYS = ("told", "kept", "digest", "recover_s")
"""The fields of an Outcome as outcomes.jsonl calls them."""


@dataclass(frozen=True)
class Outcome:
    """One kill: frames that the process `reported` right before, and frames `saved` on disk."""

    reported: int
    saved: int
    digest: str
    recover_s: float | None
    """Seconds until the first answer; None where the process was killed without a question."""


class UninterruptedRun:
    """A run without kills, ingested in this process as far as a comparison needs it."""

    def __init__(self, source: str, engines: Engines) -> None:
        network = engines.bundle.manifest.network
        self.ingest = Ingest(
            network, engines.backbone, make_sampler("neural", engines.sampler), empty_version(network)
        )
        self._paced, self._clip_frames = "speed=" in source, network.clip_frames
        self._source = open_source(_without_pace(source), sample_fps=network.sample_fps)
        self._frames = iter(self._source)
        self.digests = {0: digest_of(self.ingest.version)}
        self.versions = self._versions()

    def _versions(self) -> Iterator[Version]:
        while True:
            pending = len(self.ingest.version.pending)
            count = 1 if self._paced else batch_size(pending, self._clip_frames)
            frames = list(islice(self._frames, count))
            if not frames:
                return
            yield self.ingest.push(frames)

    def advance_to(self, frames: int) -> Version | None:
        """Return the version after `frames` frames; None where a run without kills has no such version."""
        while self.ingest.version.frames < frames:
            version = next(self.versions, None)
            if version is None:
                return None
            self.digests[version.frames] = digest_of(version)
        return self.ingest.version if self.ingest.version.frames == frames else None

    def digest(self, frames: int) -> str | None:
        self.advance_to(frames)
        return self.digests.get(frames)

    def close(self) -> None:
        self._source.close()
        self.ingest.close()


def digest_of(version: Version) -> str:
    """Return the SHA-256 of everything that a version holds."""
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
    """Start the process on the state, kill it at a random moment and read what is on disk."""
    silent = rng.random() < 0.25
    command = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "run", "--source", source]
    command += ["--state", str(state), "--backend", "onnxruntime", "--no-http", "--json"]
    started = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        reported, recover_s = 0, None
        try:
            if silent:
                time.sleep(rng.uniform(0, 3))
            else:
                resumed = _ask_frame_count(process)
                recover_s = time.monotonic() - started
                while time.monotonic() - started < _TIMEOUT_S and _ask_frame_count(process) == resumed:
                    time.sleep(0.05)  # until it has ingested a frame itself
                time.sleep(rng.uniform(0, longest_s))
                reported = _ask_frame_count(process)
                time.sleep(rng.uniform(0, 0.05))
        finally:
            process.kill()
    saved = load_snapshot(state)
    version = saved.version if saved else None
    if version is None:
        return Outcome(reported, 0, "", recover_s)
    return Outcome(reported, version.frames, digest_of(version), recover_s)


def _ask_frame_count(process: subprocess.Popen[bytes]) -> int:
    """Return the number of frames that the process reports. Raises RuntimeError if it does not answer."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(_QUESTION)
    if not select.select([process.stdout], [], [], _TIMEOUT_S)[0]:
        raise RuntimeError(f"no answer in {_TIMEOUT_S} s")
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise RuntimeError(f"the process ended: {process.stderr.read().decode(errors='replace')[-500:]}")
    return round(json.loads(line)["coverage"]["to"] or 0)


def compare_answers(engines: Engines, source: str, killed: Version, whole: Version) -> tuple[int, int]:
    """Return how many questions were put to both, and how many answers were equal to the last digit."""
    manifest = engines.bundle.manifest
    objects = ObjectEncoder(engines.backbone, manifest.network, frame_at=_no_picture, catalogue=None)
    world = World(parse_demo(source).config)
    asked = [query for kind in make_questions(world, manifest).values() for query in kind]
    after_kills, uninterrupted = (
        Asker(manifest, engines.reader, objects).ask_all(asked, version) for version in (killed, whole)
    )
    equal = sum(
        a.model_copy(update={"milliseconds": 0.0}) == b.model_copy(update={"milliseconds": 0.0})
        for a, b in zip(after_kills, uninterrupted, strict=True)
    )
    return len(asked), equal


def _no_picture(t: float) -> Frame:
    raise AssertionError(f"no question is about a picture, got one at {t}")


def _without_pace(source: str) -> str:
    """Return the source of the same pictures without its speed: as fast as they are read."""
    name, _, settings = source.partition("?")
    rest = [setting for setting in settings.split("&") if setting and not setting.startswith("speed=")]
    return "?".join([name, *filter(None, ["&".join(rest)])])


def make_questions(world: World, manifest: Manifest, products: int = 6) -> dict[str, list[AnyQuery]]:
    """Return questions of each kind without a time span: `products` photos, all activities, pairs of them."""
    photos = [Photos(photos=(world.encode_photo(instance, side_px=128),)) for instance in range(products)]
    names = [activity.name for activity in manifest.classes]
    pairs = [(photo, names[i % len(names)]) for i, photo in enumerate(photos * 3)]
    return {
        "activity": [ActivityQuery(object=photo) for photo in photos],
        "object": [ObjectQuery(activity=name) for name in names],
        "time": [TimeQuery(activity=name, object=photo) for photo, name in pairs],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the state and the outcomes")
    parser.add_argument("--source", default=PACED_DEMO, help="a demo, or a video file at one frame a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=2.0, help="seconds that a process lives after its answer"
    )
    given = parser.parse_args()
    result = run_kills(given.kills, given.folder, canonicalise(given.source), given.seed, given.longest)
    finish(result)
    return 0 if result["passed"] else 3


def run_kills(
    kills: int, folder: Path, source: str, seed: int = 0, longest_s: float = 2.0
) -> dict[str, object]:
    """Kill the process `kills` times in all, those in the folder included, and evaluate the outcomes."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / "outcomes.jsonl"
    rows = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    done = [Outcome(*(row[key] for key in _KEYS)) for row in rows]
    with progress(kills - len(done)) as step, ledger.open("a") as file:
        for i in range(len(done), kills):
            outcome = kill_once(folder / "state", source, random.Random(f"{seed} {i}"), longest_s)
            file.write(json.dumps(dict(zip(_KEYS, astuple(outcome), strict=True))) + "\n")
            file.flush()
            done.append(outcome)
            step(f"{outcome.saved} frames")
    return evaluate_outcomes(done, folder / "state", source)


def evaluate_outcomes(done: list[Outcome], state: Path, source: str) -> dict[str, object]:
    engines = Engines.load(Bundle.open(default_bundle()), "onnxruntime")
    run = UninterruptedRun(source, engines)
    try:
        wrong = [
            i
            for i, outcome in enumerate(done)
            if outcome.digest and run.digest(outcome.saved) != outcome.digest
        ]
        # What was on disk once must never be lost again.
        shrunk = sum(after.saved < before.saved for before, after in zip(done, done[1:], strict=False))
        lost = [max(0, outcome.reported - outcome.saved) for outcome in done]
        saved = load_snapshot(state)
        asked, equal = 0, 0
        demo = source.startswith("demo")
        if demo and saved is not None and run.advance_to(saved.version.frames) is not None:
            asked, equal = compare_answers(engines, source, saved.version, run.ingest.version)
    finally:
        run.close()
        engines.close()
    waits = [outcome.recover_s for outcome in done if outcome.recover_s is not None]
    result: dict[str, object] = {
        "kills": len(done),
        "silent": len(done) - len(waits),
        "frames": done[-1].saved,
        "states_wrong": wrong,
        "states_shrunk": shrunk,
        "frames_lost": {str(n): lost.count(n) for n in sorted(set(lost))},
        "recover_s": {"median": round(median(waits), 3), "worst": round(max(waits), 3)} if waits else None,
        "answers": {"asked": asked, "equal": equal},
    }
    result["passed"] = not wrong and not shrunk and max(lost) <= 1 and asked == equal
    show(f"{len(done)} kills of {source}", ("what", "is"), [[k, str(v)] for k, v in result.items()])
    return result


if __name__ == "__main__":
    run_tool(main)
