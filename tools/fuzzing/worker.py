"""Run cases in a process of its own: libFuzzer (atheris), guided by the coverage of our packages.

    python -m tools.fuzzing.worker TARGET OUT CASES SEED

The supervisor follows it through a mapped file (`Progress`), so that a case that hangs, takes too much memory
or ends the process is known to the byte. Python exceptions do not end it: they are saved, once each.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from hashlib import sha256
from pathlib import Path
from random import Random

import atheris

from tools.fuzzing.case_check import MEMORY_BYTES, find_problem, peak_above
from tools.fuzzing.progress import Progress


def main() -> None:
    name, out, cases, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    warnings.simplefilter("ignore")  # of numpy, about hostile numbers
    logging.getLogger().addHandler(logging.NullHandler())
    with atheris.instrument_imports(
        include=["edge_runtime", "engines", "export.data"], enable_loader_override=False
    ):
        from tools.fuzzing.targets import open_target

        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
            target = open_target(name, Path(scratch))
            corpus, progress = out / "corpus", Progress(out / "progress", target.max_bytes)
            for seed_bytes in target.seeds():
                (corpus / sha256(seed_bytes).hexdigest()[:40]).write_bytes(seed_bytes)

            def run_case(data: bytes) -> None:
                progress.begin(data)
                finding = find_problem(target.run, data)
                if finding is not None:
                    _save_finding(out / "findings", finding, data)
                    progress.finding()
                if peak_above(MEMORY_BYTES):
                    sys.stderr.flush()
                    progress.memory()
                progress.end()

            def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
                rng = Random(seed)
                changed = target.mutate(data, rng) if rng.random() < 0.6 else None
                return atheris.Mutate(data, max_bytes) if changed is None else changed[:max_bytes]

            options = [
                f"-runs={cases}",
                f"-seed={seed % (2**31 - 1) + 1}",
                f"-max_len={target.max_bytes}",
                "-rss_limit_mb=0",  # the supervisor limits memory and time
                "-detect_leaks=0",
                "-print_final_stats=1",
                "-verbosity=1",
                "-len_control=0",
                f"-artifact_prefix={out}/",
            ]
            atheris.Setup([sys.argv[0], str(corpus), *options], run_case, custom_mutator=mutate)
            progress.ready(time.monotonic_ns())
            atheris.Fuzz()


def _save_finding(folder: Path, finding: tuple[str, str], data: bytes) -> None:
    """Save the smallest input of each signature, with its description."""
    signature, story = finding
    stem = folder / sha256(signature.encode()).hexdigest()[:12]
    if not stem.with_suffix(".bin").exists() or stem.with_suffix(".bin").stat().st_size > len(data):
        stem.with_suffix(".bin").write_bytes(data)
        stem.with_suffix(".txt").write_text(f"{signature}\n\n{story}", errors="backslashreplace")


if __name__ == "__main__":
    main()
