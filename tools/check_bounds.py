"""Does every base dependency's lower bound exist as a wheel for Python 3.10 on aarch64 (JetPack 6)?

    python tools/check_bounds.py

Asks pip, in a dry run for that platform, for exactly the lower bounds of pyproject.toml, all at once and with
their own dependencies, so that they are also known to fit together. Needs the package index. Exit status 1
and pip's own words where something is missing; the last line of standard output is one JSON object.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux2014_aarch64",
    "manylinux_2_17_aarch64",
)
PYTHON = "3.10"


def base_dependencies(pyproject: str) -> list[str]:
    """Requirement strings of `[project] dependencies`; Python 3.10 has no TOML reader, so from plain text."""
    block = re.search(r"^dependencies = \[\n(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("pyproject.toml has no [project] dependencies list")
    return re.findall(r'"([^"]+)"', block[1])


def pinned(requirement: str) -> str:
    """`name>=1.2` as `name==1.2`."""
    name, bound, version = requirement.partition(">=")
    if not bound or "," in version:
        raise SystemExit(f"a base dependency must have exactly one lower bound, got {requirement!r}")
    return f"{name}=={version}"


def main() -> int:
    root = Path(__file__).parent.parent
    pins = [pinned(one) for one in base_dependencies((root / "pyproject.toml").read_text())]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--only-binary=:all:", f"--python-version={PYTHON}", "--target=unused"]
    command += [f"--platform={one}" for one in PLATFORMS]
    done = subprocess.run([*command, *pins], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
    print(json.dumps({"ok": done.returncode == 0, "python": PYTHON, "platform": PLATFORMS[0], "pins": pins}))
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
