"""The container files, as far as they can be read without a container runtime (docs/container.md)."""

import json
import re
import sys

import pytest
import yaml

from edge_runtime.config.paths import configs
from edge_runtime.config.schema import load_config
from edge_runtime.sources.gstreamer import load_gstreamer
from engines.errors import LvmError

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


def test_the_build_gets_what_the_wheel_is_made_of_and_nothing_else():
    tomllib = pytest.importorskip("tomllib", reason="in Python since 3.11")
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    assert patterns[0] == "*" and {one[1:] for one in patterns if one.startswith("!")} == needed


def test_the_health_check_asks_where_the_mounted_configuration_listens():
    (said,) = (words for one, words in instructions("Dockerfile") if one == "HEALTHCHECK")
    (asked,) = re.findall(r"http://([\d.:]+)/healthz", said)
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values()
    assert load_config(FOLDER / service["volumes"][1].split(":")[0]).http.listen == asked


def test_the_jetsons_image_has_what_gstreamer_is_said_to_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(LvmError) as said:
        load_gstreamer()
    (packages,) = re.findall(r"apt install ([a-z0-9 .-]+),", str(said.value))
    installed = next(words for one, words in instructions("Dockerfile.jetpack6") if one == "RUN").split()
    assert packages.split() and set(packages.split()) <= set(installed)
