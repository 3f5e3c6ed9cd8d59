"""A process is not blamed for the memory of the one that started it."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from tools.fuzzing.case_check import peak_above
before = peak_above(150 << 20)
held = b"x" * (200 << 20)
del held
print(before, peak_above(150 << 20), peak_above(2 << 30))
"""


def test_only_its_own_memory_counts_and_its_peak_stays():
    large = "import subprocess, sys; held = b'x' * (200 << 20); "
    large += (
        f"print(subprocess.run([sys.executable, '-c', {PROGRAM!r}], capture_output=True, text=True).stdout)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", large], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
