"""Run the parts of a GPU check and render their results as a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, Any]


@dataclass
class PartResult:
    """The result of a part: `status` is "ran", "failed" or "not run", `reason` says why."""

    name: str
    status: str
    reason: str | None = None
    figures: Figures = field(default_factory=dict)


def run_part(name: str, missing: str | None, work: Callable[..., Figures], *arguments: Any) -> PartResult:
    """Run one part, and catch whatever it raises, so that the other parts run all the same.

    A part that ran and missed its target returns the reason under "wrong".
    """
    if missing is not None:
        return PartResult(name, "not run", missing)
    try:
        figures = work(*arguments)
    except Exception as error:  # torch, TensorRT and CUDA share no base
        message = " ".join(str(error).split())[:400]
        return PartResult(name, "failed", f"{type(error).__name__}: {message}")
    wrong = figures.pop("wrong", None)
    return PartResult(name, "ran" if wrong is None else "failed", wrong, figures)


def render_markdown(machine: Figures, parts: list[PartResult]) -> str:
    """Render where it ran, what ran and what did not, then every figure that was measured."""
    where = machine["gpu"] or f"no GPU: {machine['no_gpu'] or 'none that torch or TensorRT reaches'}"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    lines = ["# GPU check", "", f"{where}; {machine['system']}, Python {machine['python']}; {packages}.", ""]
    lines += ["| part | | why not |", "|---|---|---|"]
    lines += [f"| {part.name} | {part.status} | {part.reason or ''} |" for part in parts]
    for part in parts:
        if part.figures:
            lines += ["", f"## {part.name}", "", *_render_figures(part.figures)]
    return "\n".join(lines) + "\n"


def _render_figures(figures: Figures, prefix: str = "") -> list[str]:
    lines = []
    for key, value in figures.items():
        name = f"{prefix}, {key}" if prefix else str(key)
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            lines += _render_figures(value, name)
        elif isinstance(value, dict):
            pairs = ", ".join(f"{k} {_short(v)}" for k, v in value.items())
            lines.append(f"- {name}: {pairs or 'none'}")
        else:
            lines.append(f"- {name}: {_short(value)}")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
