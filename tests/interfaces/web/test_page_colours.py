"""The page's colours, without a browser."""

import re
from itertools import product
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "edge_runtime" / "interfaces" / "web" / "static"


def palettes() -> dict[str, dict[str, str]]:
    """The colours of both schemes, by name."""
    css = (STATIC / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks)
    return {"light": light, "dark": light | dark}


def contrast(one: str, two: str) -> float:
    """Of WCAG 2: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_at_least_four_and_a_half_on_every_ground_it_stands_on(scheme):
    colours = palettes()[scheme]
    pairs = [
        *product(("text", "muted"), ("bg", "surface", "sunken")),
        *product(("text", "muted"), ("accent-soft",)),
        ("accent", "surface"),
        ("on-accent", "accent"),
        ("warn", "warn-soft"),
        ("muted", "warn-soft"),
        ("text", "warn-soft"),
        ("bad", "surface"),
        ("bad", "sunken"),
        ("on-stage", "stage"),
    ]
    low = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert {pair: value for pair, value in low.items() if value < 4.5} == {}
    # What is drawn, not read: 3 is asked for.
    drawn = [(one, "sunken") for one in ("accent", "good", "warn", "bad")]
    assert all(contrast(colours[one], colours[ground]) >= 3 for one, ground in drawn)
