"""Every picture of README and documentation, made anew: the panel, the page, the concepts.

    python -m tools.docs

Needs Chromium for the page. Takes some minutes, as all of them come from real runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def commands(screens: Path) -> list[list[str]]:
    """What is run, one after the other; `screens` takes the page's other pictures."""
    return [
        ["tools.docs.panel_picture", str(DOCS / "panel.svg")],
        ["tools.docs.concept_figures", "--folder", str(DOCS)],
        ["tools.docs.screenshots", "--only", "desktop-light", "--output", str(screens)]
        + ["--readme", str(DOCS / "page.png")],
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as screens:
        for command in commands(Path(screens)):
            print(" ".join(command), flush=True)
            done = subprocess.run([sys.executable, "-m", *command], check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
