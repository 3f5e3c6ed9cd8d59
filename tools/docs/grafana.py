"""configs/grafana/lvm-edge.json, a dashboard over the metrics of lvm-edge, from the table below.

python -m tools.docs.grafana            writes it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "configs" / "grafana" / "lvm-edge.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDE, HIGH = 8, 7

PANELS: tuple[tuple[str, str, str, str], ...] = (
    # title, unit of Grafana, query, legend
    ("Pictures from cameras", "hertz", 'lvm_camera_fps{camera=~"$camera"}', "{{camera}}"),
    ("Sampled frames remembered", "hertz", 'rate(lvm_frames_total{camera=~"$camera"}[5m])', "{{camera}}"),
    (
        "Sampled frames not remembered, an hour",
        "short",
        'increase(lvm_frames_dropped_total{camera=~"$camera"}[1h])',
        "{{camera}} {{reason}}",
    ),
    (
        "Condition of cameras",
        "short",
        'max by (camera, condition) (lvm_camera_condition{camera=~"$camera"})',
        "{{camera}} {{condition}}",
    ),
    (
        "Tries to reconnect, an hour",
        "short",
        'increase(lvm_camera_reconnects_total{camera=~"$camera"}[1h])',
        "{{camera}}",
    ),
    (
        "Not watched, of the last hour",
        "s",
        'increase(lvm_gap_seconds_total{camera=~"$camera"}[1h])',
        "{{camera}} {{reason}}",
    ),
    ("Watched", "s", 'lvm_coverage_seconds{camera=~"$camera"}', "{{camera}}"),
    ("Tokens remembered", "short", 'lvm_memory_tokens{camera=~"$camera"}', "{{camera}}"),
    (
        "Time of a question, 95 of 100",
        "s",
        "histogram_quantile(0.95, sum by (le, type) (rate(lvm_query_seconds_bucket[5m])))",
        "{{type}}",
    ),
    ("Questions", "hertz", "sum by (type) (rate(lvm_query_seconds_count[5m]))", "{{type}}"),
    (
        "Time of a stage of the ingest, mean",
        "s",
        'sum by (stage) (rate(lvm_stage_seconds_sum{camera=~"$camera"}[5m])) / '
        'sum by (stage) (rate(lvm_stage_seconds_count{camera=~"$camera"}[5m]))',
        "{{stage}}",
    ),
    (
        "Time of a stage of the ingest, 95 of 100",
        "s",
        "histogram_quantile(0.95, sum by (le, stage) "
        '(rate(lvm_stage_seconds_bucket{camera=~"$camera"}[5m])))',
        "{{stage}}",
    ),
    (
        "Time of writing a snapshot, 95 of 100",
        "s",
        "histogram_quantile(0.95, sum by (le, camera) "
        '(rate(lvm_state_save_seconds_bucket{camera=~"$camera"}[1h])))',
        "{{camera}}",
    ),
    ("Resident memory", "bytes", 'process_resident_memory_bytes{job="lvm-edge"}', "{{instance}}"),
    (
        "Written to disk",
        "Bps",
        'rate(lvm_state_written_bytes_total{camera=~"$camera"}[15m])',
        "{{camera}}",
    ),
    ("Temperature", "celsius", "lvm_device_temperature_celsius", "{{sensor}}"),
    ("Responses over HTTP", "hertz", "sum by (code) (rate(lvm_http_responses_total[5m]))", "{{code}}"),
    ("What runs the graphs", "short", "lvm_engine_info", "{{backend}} {{precision}} {{version}}"),
)


def make_dashboard() -> dict[str, Any]:
    """As Grafana imports it; the data source and the cameras are chosen on top."""
    cameras = {
        "name": "camera",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(lvm_memory_tokens, camera)", "refId": "camera"},
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return {
        "title": "lvm-edge",
        "uid": "lvm-edge",
        "schemaVersion": 39,
        "tags": ["lvm-edge"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}, cameras]},
        "panels": [_make_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _make_panel(number: int, title: str, unit: str, query: str, legend: str) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": number % 3 * WIDE, "y": number // 3 * HIGH, "w": WIDE, "h": HIGH},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "datasource": SOURCE, "expr": query, "legendFormat": legend}],
    }


def render_dashboard() -> str:
    return json.dumps(make_dashboard(), indent=1) + "\n"


def main() -> int:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(render_dashboard())
    print(json.dumps({"written": str(FILE), "panels": len(PANELS)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
