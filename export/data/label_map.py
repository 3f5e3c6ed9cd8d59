"""Read what labels of an annotation tool mean here: an activity, a product, both, or nothing.

    activities:
      take: [pick up, grab]
      return:
    products:
      milk: [milk carton]
    both:
      take milk: [take, milk]
    ignore: [person]
    other: product
    doing: {take: taking it off the shelf}

Labels are compared without regard to case and outer spaces. `other` says what labels are that are not named:
`activity` (as without such a file), `product` or `ignore`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge_runtime.config.yaml_loader import read_settings
from edge_runtime.system.validation import StrictModel
from engines.errors import LvmError

Name = Annotated[str, Field(min_length=1, max_length=200)]
Kind = Literal["activity", "product", "ignore"]


class LabelFile(StrictModel):
    """The contents of the YAML file."""

    activities: dict[Name, tuple[Name, ...] | None] = Field(default_factory=dict)
    products: dict[Name, tuple[Name, ...] | None] = Field(default_factory=dict)
    both: dict[Name, tuple[Name, Name]] = Field(default_factory=dict)
    ignore: tuple[Name, ...] = ()
    other: Kind = "activity"
    doing: dict[Name, Annotated[str, Field(min_length=1, max_length=500)]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Meaning:
    """What a label says: an activity, a product, both, or nothing."""

    activity: str | None = None
    product: str | None = None


@dataclass
class LabelMap:
    """Meanings by label; of the labels that the file `listed`, `used` are those that occurred."""

    meanings: dict[str, Meaning] = field(default_factory=dict)
    other: Kind = "activity"
    doing: dict[str, str] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def explain(self, label: str) -> Meaning:
        """Return what a label means."""
        plain = _plain(label)
        if plain in self.meanings:
            self.used.add(plain)
            return self.meanings[plain]
        name = label.strip()
        if self.other == "ignore":
            return Meaning()
        return Meaning(activity=name) if self.other == "activity" else Meaning(product=name)

    def is_named(self, label: str) -> bool:
        """Whether the file names the label: values of attributes count only then."""
        return _plain(label) in self.meanings

    @property
    def unused(self) -> list[str]:
        """Return the labels that the file lists and that did not occur."""
        return sorted(self.listed - self.used)


def read_label_map(path: Path | None) -> LabelMap:
    """Return the meanings that a file gives; without one every label is an activity. Raises LvmError."""
    if path is None:
        return LabelMap()
    content = read_settings(path, LabelFile, {})
    labels = LabelMap(other=content.other, doing=dict(content.doing))

    def add(label: str, meaning: Meaning) -> None:
        known = labels.meanings.setdefault(_plain(label), meaning)
        if known != meaning:
            raise LvmError(f"{path}: label {label!r} has two meanings; leave one of them")
        if label not in (meaning.activity, meaning.product):
            labels.listed.add(_plain(label))

    for name, others in content.activities.items():
        for label in (name, *(others or ())):
            add(label, Meaning(activity=name))
    for name, others in content.products.items():
        for label in (name, *(others or ())):
            add(label, Meaning(product=name))
    for label, (activity, product) in content.both.items():
        add(label, Meaning(activity, product))
    for label in content.ignore:
        add(label, Meaning())
    if strange := sorted(set(content.doing) - {meaning.activity for meaning in labels.meanings.values()}):
        raise LvmError(f"{path}: doing names {strange[0]!r}, which is no activity of the file")
    return labels


def _plain(label: str) -> str:
    return label.strip().casefold()
