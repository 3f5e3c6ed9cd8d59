"""Measure what many clients at once, and hostile ones, cost other clients and the ingest.

    python -m tools.reliability.http_load --askers 50 --seconds 60

Runs the default bundle over the demo in real time, behind access tokens. First nobody asks (the control of
the ingest), then one client alone (the control of the answers), then all, then one beside hostile clients
from another address: silent connections, a letter now and then, half bodies, uploads of a gigabyte, wrong
types, path traversal, missing and forged tokens. A figure is meaningful only beside its control on the same
machine. Exit status 3 where a question failed or the ingest rate fell below 90 % of its control. The last
line of standard output is one JSON object.
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
class AskerStats:
    """Milliseconds of the answers, and counts of failures by their kind."""

    took_ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        took = np.array(self.took_ms or [float("nan")])
        return {
            "answers": len(self.took_ms),
            "failed": dict(self.failed),
            "p50_ms": round(float(np.percentile(took, 50)), 1),
            "p99_ms": round(float(np.percentile(took, 99)), 1),
        }


@dataclass(frozen=True)
class Server:
    port: int
    token: str | None = None

    def encode_query(self, body: bytes, *, length: int | None = None, token: str | None = None) -> bytes:
        """Return the request's bytes; `length` is its Content-Length, by default the body's."""
        bearer = token or self.token
        lines = ["POST /api/v1/query HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"Authorization: Bearer {bearer}"] if bearer else []
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run_asker(server: Server, until: float, stats: AskerStats) -> None:
    """Ask again and again until `until` (monotonic s), over one connection for as long as it holds."""
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError as error:
            stats.failed[type(error).__name__] += 1
            await asyncio.sleep(0.1)
            continue
        with contextlib.closing(writer):
            while time.monotonic() < until:
                begun = time.monotonic()
                try:
                    writer.write(server.encode_query(QUESTION))
                    status, _ = await asyncio.wait_for(_reply(reader), 60)
                except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                    stats.failed[type(error).__name__] += 1
                    break
                if status == 200:
                    stats.took_ms.append((time.monotonic() - begun) * 1000)
                else:
                    stats.failed[str(status)] += 1


async def _reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    return int(head.split(b" ")[1]), await reader.readexactly(length)


async def run_askers(server: Server, askers: int, seconds: float) -> AskerStats:
    stats, until = AskerStats(), time.monotonic() + seconds
    await asyncio.gather(*(run_asker(server, until, stats) for _ in range(askers)))
    return stats


# -- hostile clients -----------------------------------------------------------------------------------------

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Server], Awaitable[str]]


async def _stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server) -> str:
    await reader.read(1)
    return "hung up on"


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server) -> str:
    writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
    return "hung up on"


async def _send_half_a_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server
) -> str:
    writer.write(server.encode_query(b"{", length=1000))
    await writer.drain()
    await asyncio.sleep(0.2)
    return "gone in the middle"


async def _upload_gigabyte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server) -> str:
    writer.write(server.encode_query(b"", length=GIGABYTE))
    replied = asyncio.create_task(_reply(reader))
    for _ in range(GIGABYTE >> 20):
        if replied.done():
            break
        writer.write(b" " * (1 << 20))
        await writer.drain()
        await asyncio.sleep(0)
    return str((await replied)[0])


async def _upload_gigabyte_in_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server
) -> str:
    head = server.encode_query(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    writer.write(head)
    replied = asyncio.create_task(_reply(reader))
    for _ in range(GIGABYTE >> 20):
        if replied.done():
            break
        writer.write(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
    return str((await replied)[0])


def _sending(data: Callable[[Server], bytes]) -> Attack:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server) -> str:
        writer.write(data(server))
        status = str((await _reply(reader))[0])
        await asyncio.sleep(0.05)
        return status

    return send


def _getting(path: str) -> Attack:
    return _sending(lambda server: f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())


ATTACKS: dict[str, tuple[int, Attack]] = {
    "says nothing": (20, _stay_silent),
    "a letter now and then": (20, _trickle),
    "half a body": (4, _send_half_a_body),
    "a gigabyte": (2, _upload_gigabyte),
    "a gigabyte in chunks": (1, _upload_gigabyte_in_chunks),
    "a wrong type": (2, _sending(lambda server: server.encode_query(b"\xff\xd8\xff" * 1000))),
    "climbs": (2, _getting("/page/../../../../etc/passwd")),
    "climbs in disguise": (2, _getting("/page/%2e%2e/%2e%2e/%2e%2e/etc/passwd")),
    "no token": (2, _getting("/api/v1/config")),
    "a forged token": (4, _sending(lambda server: server.encode_query(QUESTION, token="lvm_" + "a" * 43))),
}
"""How many clients of each kind run at once, and what each does with one connection."""


async def run_attacks(server: Server, seconds: float) -> dict[str, Counter[str]]:
    """Run all attacks again and again; return how their connections ended, by attack."""
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in ATTACKS}
    until = time.monotonic() + seconds

    async def repeat(name: str, attack: Attack) -> None:
        while (left := until - time.monotonic()) > 0:
            try:
                opening = asyncio.open_connection(
                    "127.0.0.1", server.port, local_addr=(HOSTILE_ADDRESS, 0), limit=1 << 20
                )
                reader, writer = await opening
                with contextlib.closing(writer):
                    outcomes[name][await asyncio.wait_for(attack(reader, writer, server), left)] += 1
            except asyncio.TimeoutError:
                outcomes[name]["held until the end"] += 1
            except (OSError, asyncio.IncompleteReadError):
                outcomes[name]["hung up on"] += 1
                await asyncio.sleep(0.05)

    clients = (repeat(name, attack) for name, (count, attack) in ATTACKS.items() for _ in range(count))
    await asyncio.gather(*clients)
    return outcomes


# -- the whole measurement -----------------------------------------------------------------------------------


def _attack_in_process(server: Server, seconds: float) -> dict[str, Counter[str]]:
    return asyncio.run(run_attacks(server, seconds))


def _read_status(server: Server, path: str = "/api/v1/status") -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}")
    request.add_header("Authorization", f"Bearer {server.token}")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


class _IngestRate:
    """Measures the frames ingested per second since it was made."""

    def __init__(self, server: Server) -> None:
        self._target = server
        self._begun, self._frames = time.monotonic(), _read_status(server)["frames"]

    def rate(self) -> float:
        frames = _read_status(self._target)["frames"] - self._frames
        return float(frames / (time.monotonic() - self._begun))


async def _measure(server: Server, askers: int, seconds: float, control_s: float) -> dict[str, Any]:
    watching = _IngestRate(server)
    await asyncio.sleep(control_s)
    alone_rate = watching.rate()
    alone = await run_askers(server, 1, control_s)
    watching = _IngestRate(server)
    together = await run_askers(server, askers, seconds)
    loaded_rate = watching.rate()
    watching = _IngestRate(server)
    with ProcessPoolExecutor(
        1
    ) as pool:  # in its own process, so that the asker does not wait for the attacks
        attacks = asyncio.get_running_loop().run_in_executor(pool, _attack_in_process, server, control_s)
        beside, outcomes = await asyncio.gather(run_askers(server, 1, control_s), attacks)
    return {
        "frames_per_s": {
            "nobody asks": round(alone_rate, 3),
            "all ask": round(loaded_rate, 3),
            "beside harm": round(watching.rate(), 3),
        },
        "ratio": round(loaded_rate / alone_rate, 3),
        "alone": alone.to_json(),
        "all": together.to_json() | {"askers": askers, "seconds": seconds},
        "beside harm": beside.to_json(),
        "harm": {name: dict(counts) for name, counts in outcomes.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--askers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--control-s", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=8979)
    parser.add_argument("--backend", default="auto")
    given = parser.parse_args()
    server = Server(given.port, new_token())
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "load.yaml"
        settings = {
            "cameras": {"lane1": {"source": "demo?speed=1"}},
            "model": {"backend": given.backend},
            "state": {"directory": f"{folder}/state"},
            "http": {
                "listen": f"127.0.0.1:{given.port}",
                "queries_per_s": None,
                "tokens": [{"name": "load", "token_hash": hash_token(server.token or "")}],
            },
        }
        config.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "run", "--config", str(config)]
        silent = subprocess.DEVNULL
        running = subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent)
        try:
            _wait_until_ingesting(server, running)
            result = asyncio.run(_measure(server, given.askers, given.seconds, given.control_s))
        finally:
            running.terminate()
            running.wait(30)
    ok = not (result["all"]["failed"] or result["beside harm"]["failed"]) and result["ratio"] >= 0.9
    print(json.dumps({"ok": ok} | result))
    return 0 if ok else 3


def _wait_until_ingesting(server: Server, running: subprocess.Popen[bytes], frames: int = 5) -> None:
    """Wait until the service has ingested its first frames."""
    end = time.monotonic() + 120
    while time.monotonic() < end and running.poll() is None:
        with contextlib.suppress(OSError):
            if _read_status(server)["frames"] >= frames:
                return
        time.sleep(0.2)
    raise SystemExit("lvm-edge run did not ingest its first frames; run it by hand to see why")


if __name__ == "__main__":
    sys.exit(main())
