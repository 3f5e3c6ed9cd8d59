"""The dashboard for Grafana asks for figures that there are."""

import re

import yaml
from cameras import fake_engines
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from edge_runtime.camera_settings import CameraSettings
from edge_runtime.http.app import make_app
from edge_runtime.paths import configs
from edge_runtime.service import Service
from tools.grafana import PANELS, PLACE, dashboard, text

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}


def told(tmp_path) -> set[str]:
    with Service(fake_engines()) as service:
        service.add(CameraSettings("demo", tmp_path))
        page = TestClient(make_app(service)).get("/metrics").text
    families = list(text_string_to_metric_families(page))
    return {one.name + suffix for one in families for suffix in SUFFIXES.get(one.type, ("",))}


def test_every_metric_that_a_panel_names_exists(tmp_path):
    names = told(tmp_path)
    for title, _, query, _ in PANELS:
        asked = set(re.findall(r"\b(?:lvm|process)_[a-z0-9_]+", query))
        assert asked and asked <= names, f"{title}: there is no {asked - names}"


def test_the_file_is_current_and_its_panels_do_not_overlap():
    assert PLACE.read_text() == text(), "run python -m tools.grafana"
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in dashboard()["panels"]]
    assert len(set(places)) == len(places) == len(PANELS)


def test_prometheus_is_told_where_it_listens():
    (job,) = yaml.safe_load((configs() / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "lvm-edge" and job["static_configs"] == [{"targets": ["127.0.0.1:8971"]}]
