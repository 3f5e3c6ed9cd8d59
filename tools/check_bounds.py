"""Check that every base dependency's lower bound exists as a wheel for Python 3.10 on aarch64 (JetPack 6).

    python tools/check_bounds.py

Asks pip, in a dry run for that platform, for exactly the lower bounds of pyproject.toml, all at once and with
their own dependencies, which also shows that they fit together. Needs the package index. Exit status 1 and
pip's own message where something is missing; the last line of standard output is one JSON object.
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


def read_base_dependencies(pyproject: str) -> list[str]:
    """Return the strings of `[project] dependencies`, by a regular expression: Python 3.10 reads no TOML."""
    block = re.search(r"^dependencies = \[\n(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("pyproject.toml has no [project] dependencies list")
    return re.findall(r'"([^"]+)"', block[1])


def pin_lower_bound(requirement: str) -> str:
    """Turn `name>=1.2` into `name==1.2`."""
    name, bound, version = requirement.partition(">=")
    if not bound or "," in version:
        raise SystemExit(f"a base dependency must have exactly one lower bound, got {requirement!r}")
    return f"{name}=={version}"


def main() -> int:
    root = Path(__file__).parent.parent
    requirements = read_base_dependencies((root / "pyproject.toml").read_text())
    pins = [pin_lower_bound(requirement) for requirement in requirements]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--only-binary=:all:", f"--python-version={PYTHON}", "--target=unused"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    done = subprocess.run([*command, *pins], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
    print(json.dumps({"ok": done.returncode == 0, "python": PYTHON, "platform": PLATFORMS[0], "pins": pins}))
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
