"""Run the commands of docs/tutorial.md and write their outputs below them, so that they are never stale.

    python -m tools.docs.tutorial

A block of commands stands behind a marker, `<!-- run -->`. `lines=N` keeps the first N lines of each output,
`wait=S` waits S seconds after the block. A command that ends with `&` runs in the background until all others
are done. Everything runs in an empty folder with an empty home; port 8971 must be free. Only standard output
is shown, except of a command in the background. The last line is one JSON object.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from tools.console import finish

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"<!-- run(?P<options>[^>]*) -->\n```console\n(?P<body>.*?)```", re.S)
_MADE = re.compile(r"<!-- made -->\n.*?<!-- end -->", re.S)
_MAX_WIDTH = 118
_TIMEOUT_S = 300


def find_commands(body: str) -> list[str]:
    """Return the commands of a block, without the outputs between them."""
    return [line[2:] for line in body.splitlines() if line.startswith("$ ")]


class Shell:
    """Runs commands one after the other in one folder, some of them in the background."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tutorial"
        self._folder.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        for name, module in (("lvm-edge", "-m edge_runtime.interfaces.cli.entry"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
            (programs / name).chmod(0o755)
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("LVM_", "XDG_"))
        } | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": str(_MAX_WIDTH),
        }
        self._background: list[subprocess.Popen[str]] = []
        self.failed: list[str] = []

    def run(self, command: str) -> list[str]:
        """Return what a command prints; if it runs in the background, the line that says where it answers."""
        if command.endswith("&"):
            process = subprocess.Popen(
                ["sh", "-c", "exec " + command.rstrip("& ")],
                cwd=self._folder, env=self._environment, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            self._background.append(process)
            assert process.stderr is not None
            return [process.stderr.readline().rstrip()]
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self._folder, env=self._environment, text=True, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode:
            self.failed.append(f"{command}: exit status {done.returncode}, {done.stderr.strip()[:300]}")
        home = self._environment["HOME"]
        return [line.rstrip().replace(home, "~") for line in done.stdout.strip("\n").splitlines()]

    def stop(self) -> None:
        """End what runs in the background."""
        for process in self._background:
            process.terminate()
            process.wait(timeout=30)
            assert process.stderr is not None
            process.stderr.close()


def shorten(lines: list[str], max_lines: int | None) -> list[str]:
    """Return the first lines, none of them too long."""
    shortened = lines if max_lines is None or len(lines) <= max_lines else [*lines[:max_lines], "…"]
    return [line if len(line) <= _MAX_WIDTH else line[: _MAX_WIDTH - 2] + " …" for line in shortened]


def fill(page: str, shell: Shell) -> str:
    """Return the page with fresh outputs."""

    def run_block(match: re.Match[str]) -> str:
        options = dict(option.split("=") for option in match["options"].split())
        max_lines = int(options["lines"]) if "lines" in options else None
        parts = []
        for command in find_commands(match["body"]):
            print(f"$ {command}", file=sys.stderr, flush=True)
            parts.append("\n".join([f"$ {command}", *shorten(shell.run(command), max_lines)]))
        time.sleep(float(options.get("wait", 0)))
        return f"<!-- run{match['options']} -->\n```console\n" + "\n\n".join(parts) + "\n```"

    filled = BLOCK.sub(run_block, page)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, no GPU"
    made = f"The outputs below were made by `python -m tools.docs.tutorial` on {date.today()} ({machine})."
    return _MADE.sub(f"<!-- made -->\n{made}\n<!-- end -->", filled)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell(Path(folder))
        started = time.monotonic()
        try:
            page = fill(PAGE.read_text(), shell)
        finally:
            shell.stop()
    if not shell.failed:
        PAGE.write_text(page)
    finish(
        {"written": not shell.failed, "failed": shell.failed, "seconds": round(time.monotonic() - started)}
    )
    return 1 if shell.failed else 0


if __name__ == "__main__":
    sys.exit(main())
