"""The settings of the checkout world and its four levels of difficulty."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_runtime.simulation.activities import ACTIVITIES

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Range = tuple[float, float]

_NO_DISTRACTORS: dict[str, Any] = {"facings": 0, "parked": 0, "walkers": 0, "advert": False, "flicker": 0.0}
_ROUGH: dict[str, Any] = {"occlusion": 0.35, "shake_px": 2.0, "drift": 0.35}
_HARD: dict[str, Any] = {
    "concurrent": 3,
    "hard_pairs": 0.4,
    "lookalikes": 0.6,
    "lookalike_hue": 35.0,
    "zipf": 1.0,
    "cue_strength": 0.6,
}

LEVELS: dict[str, dict[str, Any]] = {
    "L0": {**_NO_DISTRACTORS, "activities": 6, "noise": 2.0},
    "L1": {},
    "L2": {**_ROUGH},
    "L3": {**_ROUGH, **_HARD},
}
"""L0 for unit tests, L1 the default; L2 adds shake, drift and occlusion, L3 several hands and hard pairs."""


class WorldConfig(BaseModel):
    """All settings that a checkout world depends on. Lengths are shares of the picture's width.

    Raises pydantic's ValidationError (a ValueError) for values out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    activities: Annotated[int, Field(ge=1, le=len(ACTIVITIES))] = len(ACTIVITIES)
    """How many of ACTIVITIES, from the first, happen."""

    instances: Annotated[int, Field(ge=4, le=256)] = 24
    object_size: Range = (0.10, 0.15)
    """Smallest and largest side of a product."""
    lookalikes: Share = 0.25
    """Share of products that have a twin of the same shape and pattern."""
    lookalike_hue: Annotated[float, Field(ge=5.0, le=180.0)] = 60.0
    """Degrees of hue between twins."""
    zipf: Annotated[float, Field(ge=0.0, le=3.0)] = 0.5
    """Exponent of how unevenly products are used; 0 is evenly."""

    events_per_minute: Annotated[float, Field(gt=0.0, le=20.0)] = 2.0
    """For each pair of hands."""
    event_seconds: Range = (4.0, 12.0)
    concurrent: Annotated[int, Field(ge=1, le=3)] = 1
    """Pairs of hands at work, each with its own product and place."""
    hard_pairs: Share = 0.0
    """Share of events that must be bag or unbag; the others are drawn evenly from all activities."""
    view_variety: Share = 1.0
    """How much camera, fixtures and colours differ between seeds; with 0 there is one room and its mirror
    image."""
    closeup: Share = 0.0
    """Share of inspect, hand_over and scan events in which the product is held close to the camera."""
    closeup_size: Range = (0.28, 0.5)
    """Smallest and largest side of a product in a close-up."""
    cue_strength: Share = 1.0
    """How clearly the red line, the digits and the sticker are visible."""

    wardrobe: Share = 0.0
    """Share of people who wear clothes of any colour, black among them: sleeves, the coat under which
    something is concealed, and coats that pass in front of products while honest work is done. The others
    have bright sleeves, and only what conceals is dark."""

    facings: Annotated[int, Field(ge=0, le=10)] = 10
    parked: Annotated[int, Field(ge=0, le=3)] = 2
    walkers: Annotated[int, Field(ge=0, le=3)] = 2
    advert: bool = True
    occlusion: Share = 0.0
    """Probability that something hides a part of the product for a part of the event."""
    shake_px: Annotated[float, Field(ge=0.0, le=8.0)] = 0.0
    """Largest camera shake, in pixels of a picture 112 wide."""
    drift: Share = 0.0
    """Slow change of the light's brightness and colour, as a share."""
    flicker: Annotated[float, Field(ge=0.0, le=0.5)] = 0.03
    noise: Annotated[float, Field(ge=0.0, le=40.0)] = 5.0
    """Standard deviation of the sensor's noise, in grey levels."""

    missing_boxes: Share = 0.0
    """Share of ticks at which a product's box is missing from exported annotations, never from the truth."""
    label_noise: Share = 0.0
    """Share of events that exported annotations call by another activity; the truth stays right."""

    @model_validator(mode="after")
    def _ordered(self) -> WorldConfig:
        if not 0.04 <= self.object_size[0] <= self.object_size[1] <= 0.2:
            raise ValueError(f"object_size must be low, high within 0.04..0.2, got {self.object_size}")
        if not 0.2 <= self.closeup_size[0] <= self.closeup_size[1] <= 0.56:
            raise ValueError(f"closeup_size must be low, high within 0.2..0.56, got {self.closeup_size}")
        if not 1.0 <= self.event_seconds[0] <= self.event_seconds[1]:
            raise ValueError(f"event_seconds must be low, high of at least 1, got {self.event_seconds}")
        if self.activities < self.concurrent:
            raise ValueError(
                f"activities must be at least concurrent ({self.concurrent}), got {self.activities}"
            )
        if self.slot_seconds < self.event_seconds[0] + 1.0:
            raise ValueError(
                f"events_per_minute of {self.events_per_minute} leaves {self.slot_seconds:.1f} s an event, "
                f"which must be one second more than the shortest ({self.event_seconds[0]})"
            )
        return self

    @property
    def slot_seconds(self) -> float:
        """Length of a slot in seconds: each pair of hands has one event in each of its slots."""
        return 60.0 / self.events_per_minute

    @classmethod
    def level(cls, name: str, *, seed: int = 0) -> WorldConfig:
        """Return the preset called `name` (L0..L3). Raises ValueError where there is none."""
        if name not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {name!r}")
        return cls(seed=seed, **LEVELS[name])
