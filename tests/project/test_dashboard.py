"""The dashboard for Grafana asks for figures that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from edge_runtime.config.paths import configs
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.runtime import Service
from tests.support.cameras import fake_engines

PANELS = json.loads((configs() / "grafana" / "lvm-edge.json").read_text())["panels"]
PROMETHEUS = configs() / "prometheus"
ALARMS = Path(__file__).parents[1] / "data" / "alerts.yml"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}


def told(tmp_path) -> set[str]:
    with Service(fake_engines()) as service:
        service.add(CameraSettings("demo", tmp_path))
        page = TestClient(make_app(service)).get("/metrics").text
    families = list(text_string_to_metric_families(page))
    return {one.name + suffix for one in families for suffix in SUFFIXES.get(one.type, ("",))}


def test_every_metric_that_a_panel_names_exists(tmp_path):
    names = told(tmp_path)
    for panel in PANELS:
        (target,) = panel["targets"]
        asked = set(re.findall(r"\b(?:lvm|process)_[a-z0-9_]+", target["expr"]))
        assert asked and asked <= names, f"{panel['title']}: there is no {asked - names}"


def test_panels_do_not_overlap():
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in PANELS]
    assert len(set(places)) == len(places)


def test_prometheus_is_told_where_it_listens_and_what_is_worth_an_alarm():
    told = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = told["scrape_configs"]
    assert job["job_name"] == "lvm-edge" and job["static_configs"] == [{"targets": ["127.0.0.1:8971"]}]
    assert [(PROMETHEUS / file).is_file() for file in told["rule_files"]] == [True]


def test_every_metric_that_an_alarm_names_exists(tmp_path):
    names = told(tmp_path)
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        asked = set(re.findall(r"\blvm_[a-z0-9_]+", rule["expr"]))
        assert asked <= names and (asked or "up{" in rule["expr"]), f"{rule['alert']}: no {asked - names}"


def test_prometheus_itself_takes_the_files_and_sounds_the_right_alarms():
    promtool = shutil.which("promtool") or pytest.skip("there is no promtool here: apt install prometheus")
    for words in (["check", "config", PROMETHEUS / "prometheus.yml"], ["test", "rules", ALARMS]):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
