"""The container files, as far as they can be read without a container runtime."""

import json
import re

import pytest
import yaml

from edge_runtime.config import load_config
from edge_runtime.paths import configs

FOLDER = configs() / "container"
ROOT = configs().parent
KNOWN = {
    "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
    "CMD",
}  # fmt: skip


def instructions(name: str) -> list[tuple[str, str]]:
    lines = [line for line in (FOLDER / name).read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetpack6"])
def test_an_image_runs_as_nobody_in_particular_and_ends_by_its_signal(name):
    said = instructions(name)
    assert {one for one, _ in said} <= KNOWN and said[0][0] == "FROM"
    assert all(":" in words and ":latest" not in words for one, words in said if one == "FROM"), "pinned"
    last = {one: words for one, words in said}
    assert last["USER"] == "10001:10001" and last["STOPSIGNAL"] == "SIGTERM"
    # The exec form: a shell in between would keep SIGTERM for itself, and nothing would be saved.
    assert json.loads(last["ENTRYPOINT"]) == ["lvm-edge"] and json.loads(last["CMD"])[0] == "run"
    extras = set(re.findall(r'"\.\[(\w+)\]"', " ".join(words for _, words in said)))
    assert extras and all(f"\n{one} = [" in (ROOT / "pyproject.toml").read_text() for one in extras)


def test_the_service_writes_its_memory_and_nothing_else():
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values()
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    (memory, config) = service["volumes"]
    source, target, mode = config.split(":")
    assert mode == "ro" and memory.partition(":")[2] == "/var/lib/lvm-edge"
    written = load_config(FOLDER / source).state.directory
    assert written is not None and str(written).startswith("/var/lib/lvm-edge")
    (dockerfile,) = (dict(instructions("Dockerfile")),)
    assert target in json.loads(dockerfile["CMD"])
