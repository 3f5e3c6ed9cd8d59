"""Many who ask at once, and those who mean harm: what that costs the others and the watching.

    python -m tools.reliability.http_load --askers 50 --seconds 60

Runs the default bundle over the demo at the pace of the clock, behind tokens. First nobody asks (the control
of the watching), then one asks alone (the control of the answers), then all, then one beside hostile clients
of another address: connections that say nothing or a letter now and then, half bodies, uploads of a gigabyte,
wrong types, paths that climb, no tokens and forged ones. The machine is the same all along, so a figure means
something beside its control only. Exit status 3 where a question failed or the watching fell below 90 % of
its control; the last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.config.access_tokens import hash_token, new_token

QUESTION = b'{"type": "object", "activity": "scan"}'
HOSTILE_ADDRESS = "127.0.0.2"
GIGABYTE = 1 << 30


@dataclass
class Asked:
    """`took_ms` of the answers; `failed` of everything else, by what it was."""

    took_ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        took = np.array(self.took_ms or [float("nan")])
        return {
            "answers": len(self.took_ms),
            "failed": dict(self.failed),
            "p50_ms": round(float(np.percentile(took, 50)), 1),
            "p99_ms": round(float(np.percentile(took, 99)), 1),
        }


@dataclass(frozen=True)
class Target:
    port: int
    token: str | None = None

    def post(self, body: bytes, *, length: int | None = None, token: str | None = None) -> bytes:
        """A question as it goes over the wire; `length` is what it says of its body."""
        shown = token or self.token
        lines = ["POST /api/v1/query HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"Authorization: Bearer {shown}"] if shown else []
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def ask_on(target: Target, until: float, asked: Asked) -> None:
    """One asker, over one connection for as long as it holds."""
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        except OSError as error:
            asked.failed[type(error).__name__] += 1
            await asyncio.sleep(0.1)
            continue
        with contextlib.closing(writer):
            while time.monotonic() < until:
                begun = time.monotonic()
                try:
                    writer.write(target.post(QUESTION))
                    status, _ = await asyncio.wait_for(_reply(reader), 60)
                except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                    asked.failed[type(error).__name__] += 1
                    break
                if status == 200:
                    asked.took_ms.append((time.monotonic() - begun) * 1000)
                else:
                    asked.failed[str(status)] += 1


async def _reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    return int(head.split(b" ")[1]), await reader.readexactly(length)


async def ask_all(target: Target, askers: int, seconds: float) -> Asked:
    asked, until = Asked(), time.monotonic() + seconds
    await asyncio.gather(*(ask_on(target, until, asked) for _ in range(askers)))
    return asked


# -- those who mean harm -------------------------------------------------------------------------------------

Harm = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Target], Awaitable[str]]


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> str:
    await reader.read(1)
    return "hung up on"


async def _letters(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> str:
    writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
    return "hung up on"


async def _half_a_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> str:
    writer.write(target.post(b"{", length=1000))
    await writer.drain()
    await asyncio.sleep(0.2)
    return "gone in the middle"


async def _gigabyte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> str:
    writer.write(target.post(b"", length=GIGABYTE))
    replied = asyncio.create_task(_reply(reader))
    for _ in range(GIGABYTE >> 20):
        if replied.done():
            break
        writer.write(b" " * (1 << 20))
        await writer.drain()
        await asyncio.sleep(0)
    return str((await replied)[0])


async def _gigabyte_in_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target
) -> str:
    head = target.post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    writer.write(head)
    replied = asyncio.create_task(_reply(reader))
    for _ in range(GIGABYTE >> 20):
        if replied.done():
            break
        writer.write(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
    return str((await replied)[0])


def _sends(data: Callable[[Target], bytes]) -> Harm:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> str:
        writer.write(data(target))
        status = str((await _reply(reader))[0])
        await asyncio.sleep(0.05)
        return status

    return send


def _get(path: str) -> Harm:
    return _sends(lambda target: f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode())


HARMS: dict[str, tuple[int, Harm]] = {
    "says nothing": (20, _say_nothing),
    "a letter now and then": (20, _letters),
    "half a body": (4, _half_a_body),
    "a gigabyte": (2, _gigabyte),
    "a gigabyte in chunks": (1, _gigabyte_in_chunks),
    "a wrong type": (2, _sends(lambda target: target.post(b"\xff\xd8\xff" * 1000))),
    "climbs": (2, _get("/page/../../../../etc/passwd")),
    "climbs in disguise": (2, _get("/page/%2e%2e/%2e%2e/%2e%2e/etc/passwd")),
    "no token": (2, _get("/api/v1/config")),
    "a forged token": (4, _sends(lambda target: target.post(QUESTION, token="lvm_" + "a" * 43))),
}
"""How many of each at once, and what each does with one connection."""


async def harm(target: Target, seconds: float) -> dict[str, Counter[str]]:
    """All of them, again and again; what became of each."""
    came: dict[str, Counter[str]] = {name: Counter() for name in HARMS}
    until = time.monotonic() + seconds

    async def one(name: str, do: Harm) -> None:
        while (left := until - time.monotonic()) > 0:
            try:
                opening = asyncio.open_connection(
                    "127.0.0.1", target.port, local_addr=(HOSTILE_ADDRESS, 0), limit=1 << 20
                )
                reader, writer = await opening
                with contextlib.closing(writer):
                    came[name][await asyncio.wait_for(do(reader, writer, target), left)] += 1
            except asyncio.TimeoutError:
                came[name]["held until the end"] += 1
            except (OSError, asyncio.IncompleteReadError):
                came[name]["hung up on"] += 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one(name, do) for name, (count, do) in HARMS.items() for _ in range(count)))
    return came


# -- the whole measurement -----------------------------------------------------------------------------------


def _harm_apart(target: Target, seconds: float) -> dict[str, Counter[str]]:
    return asyncio.run(harm(target, seconds))


def _status(target: Target, path: str = "/api/v1/status") -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{target.port}{path}")
    request.add_header("Authorization", f"Bearer {target.token}")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


class _Watching:
    """Frames a second that are taken in meanwhile."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._begun, self._frames = time.monotonic(), _status(target)["frames"]

    def rate(self) -> float:
        frames = _status(self._target)["frames"] - self._frames
        return float(frames / (time.monotonic() - self._begun))


async def _measured(target: Target, askers: int, seconds: float, control_s: float) -> dict[str, Any]:
    watching = _Watching(target)
    await asyncio.sleep(control_s)
    alone_rate = watching.rate()
    alone = await ask_all(target, 1, control_s)
    watching = _Watching(target)
    together = await ask_all(target, askers, seconds)
    loaded_rate = watching.rate()
    watching = _Watching(target)
    with ProcessPoolExecutor(1) as apart:  # else who asks would wait for those who harm in its own process
        harming = asyncio.get_running_loop().run_in_executor(apart, _harm_apart, target, control_s)
        beside, came = await asyncio.gather(ask_all(target, 1, control_s), harming)
    return {
        "frames_per_s": {
            "nobody asks": round(alone_rate, 3),
            "all ask": round(loaded_rate, 3),
            "beside harm": round(watching.rate(), 3),
        },
        "ratio": round(loaded_rate / alone_rate, 3),
        "alone": alone.as_json(),
        "all": together.as_json() | {"askers": askers, "seconds": seconds},
        "beside harm": beside.as_json(),
        "harm": {name: dict(found) for name, found in came.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--askers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--control-s", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=8979)
    parser.add_argument("--backend", default="auto")
    given = parser.parse_args()
    target = Target(given.port, new_token())
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "load.yaml"
        settings = {
            "cameras": {"lane1": {"source": "demo?speed=1"}},
            "model": {"backend": given.backend},
            "state": {"directory": f"{folder}/state"},
            "http": {
                "listen": f"127.0.0.1:{given.port}",
                "queries_per_s": None,
                "tokens": [{"name": "load", "token_hash": hash_token(target.token or "")}],
            },
        }
        config.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "run", "--config", str(config)]
        silent = subprocess.DEVNULL
        running = subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent)
        try:
            _wait(target, running)
            found = asyncio.run(_measured(target, given.askers, given.seconds, given.control_s))
        finally:
            running.terminate()
            running.wait(30)
    good = not (found["all"]["failed"] or found["beside harm"]["failed"]) and found["ratio"] >= 0.9
    print(json.dumps({"ok": good} | found))
    return 0 if good else 3


def _wait(target: Target, running: subprocess.Popen[bytes], frames: int = 5) -> None:
    """Until it has taken in its first frames."""
    end = time.monotonic() + 120
    while time.monotonic() < end and running.poll() is None:
        with contextlib.suppress(OSError):
            if _status(target)["frames"] >= frames:
                return
        time.sleep(0.2)
    raise SystemExit("lvm-edge run did not come to its first frames; run it by hand to see why")


if __name__ == "__main__":
    sys.exit(main())
