"""Parts of a GPU check: done or not, and why; and the report of them for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, Any]


@dataclass
class Part:
    """One thing that was to be done: `status` is "ran", "failed" or "not run", `reason` says why not."""

    name: str
    status: str
    reason: str | None = None
    figures: Figures = field(default_factory=dict)


def attempt(name: str, missing: str | None, work: Callable[..., Figures], *arguments: Any) -> Part:
    """Do one part. Whatever it raises is in the report: the other parts are to run all the same.

    A part that ran and does not hold returns the reason under "wrong".
    """
    if missing is not None:
        return Part(name, "not run", missing)
    try:
        figures = work(*arguments)
    except Exception as error:  # torch, TensorRT and CUDA share no base
        said = " ".join(str(error).split())[:400]
        return Part(name, "failed", f"{type(error).__name__}: {said}")
    wrong = figures.pop("wrong", None)
    return Part(name, "ran" if wrong is None else "failed", wrong, figures)


def markdown(machine: Figures, parts: list[Part]) -> str:
    """Where it ran, what ran and what did not, then every figure that was measured."""
    where = machine["gpu"] or f"no GPU: {machine['no_gpu'] or 'none that torch or TensorRT reaches'}"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    lines = ["# GPU check", "", f"{where}; {machine['system']}, Python {machine['python']}; {packages}.", ""]
    lines += ["| part | | why not |", "|---|---|---|"]
    lines += [f"| {part.name} | {part.status} | {part.reason or ''} |" for part in parts]
    for part in parts:
        if part.figures:
            lines += ["", f"## {part.name}", "", *_figures(part.figures)]
    return "\n".join(lines) + "\n"


def _figures(figures: Figures, above: str = "") -> list[str]:
    lines = []
    for key, value in figures.items():
        name = f"{above}, {key}" if above else str(key)
        if isinstance(value, dict) and any(isinstance(one, dict) for one in value.values()):
            lines += _figures(value, name)
        elif isinstance(value, dict):
            told = ", ".join(f"{k} {_short(v)}" for k, v in value.items())
            lines.append(f"- {name}: {told or 'none'}")
        else:
            lines.append(f"- {name}: {_short(value)}")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
