"""Draw the checkout world: an endless labelled video that is a pure function of its seed and of time.

Letters: H, W picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.camera import Sensor
from edge_runtime.simulation.canvas import Canvas
from edge_runtime.simulation.closeup import make_photo_setup, pad_photo, photograph
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.ground_truth import Truth, make_truth
from edge_runtime.simulation.layout import make_layout
from edge_runtime.simulation.motion import Hand
from edge_runtime.simulation.people import (
    Person,
    draw_arm,
    draw_basket,
    draw_fingers,
    draw_garment,
    draw_passing_coat,
    draw_walker,
    make_person,
    make_walkers,
)
from edge_runtime.simulation.product_images import (
    DrawnFaces,
    Face,
    Faces,
    PhotographedFaces,
    make_designs,
)
from edge_runtime.simulation.scene import (
    Backdrop,
    DrawnBackdrop,
    draw_bag_front,
    draw_display,
    draw_fixtures,
    draw_line,
    draw_patch,
)
from edge_runtime.simulation.schedule import Event, Schedule
from edge_runtime.simulation.space import ASPECT, Lens, Size, View, box_centre
from edge_runtime.simulation.stage import Act, Director, Stage

_HandDrawing = Callable[[Canvas, Hand, Person], None]
_CACHED_FACES = 48
PHOTO_SIDE_PX = 160
_SNAPSHOT_VIEWS = 1000
_CLERK_HANDS = 100
"""Added to the number of a pair of hands for the person on the other side of the counter."""


class World:
    """A checkout whose moments can be drawn in any order, all at the same cost.

    `faces` and `backdrop` replace the drawn products and wall by a shop's own pictures.
    """

    def __init__(
        self, config: WorldConfig, *, faces: Faces | None = None, backdrop: Backdrop | None = None
    ) -> None:
        self.config = config
        designs = make_designs(
            config.seed, config.instances, lookalikes=config.lookalikes, lookalike_hue=config.lookalike_hue
        )
        self._layout = make_layout(config.seed, config.view_variety)
        self._faces = faces or DrawnFaces(designs)
        self._backdrop = backdrop or DrawnBackdrop(config.seed, self._layout)
        self._schedule = Schedule(config)
        self._director = Director(config, self._layout, self._schedule, self._faces.views)
        self._sensor = Sensor(config)
        # Bounded, and only for values that all moments share: no history is kept.
        self._face = lru_cache(maxsize=max(config.instances, _CACHED_FACES))(self._make_face)
        self._room = lru_cache(maxsize=4)(self._draw_room)

    def frame(self, t: float, size: Size = (112, 112), *, hide_active: bool = False) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB at `t` seconds; `size` is (H, W), and other shapes than 16:9 are stretched.

        With `hide_active` the products in use are left out and everything else stays.
        """
        stage = self._director.make_stage(t)
        view = stage.view.snap(size)
        image = self._copy_room(size, view)
        canvas = Canvas(image, view)
        self._draw_distractors(canvas, stage, t)
        self._draw_acts(canvas, stage, t, hide_active)
        return self._sensor.expose(image, t)

    def truth(self, t: float) -> Truth:
        """Return where the products are at `t` seconds, and which of them are active."""
        return make_truth(t, self._director.make_stage(t), self._director.facings, self._face)

    def events(self, t_from: float, t_to: float) -> list[Event]:
        """Return all events that share time with [t_from, t_to) seconds, by start."""
        return self._schedule.between(t_from, t_to)

    def instance_image(self, instance: int, size: Size = (112, 112), *, view: int = 0) -> NDArray[np.uint8]:
        """Return a photograph (H, W, 3) RGB of product `instance`; view 0 is the catalogue's.

        For a product with real photographs, `view` is the number of one of them.
        """
        if not 0 <= instance < self.config.instances:
            raise ValueError(f"instance must be in 0..{self.config.instances - 1}, got {instance}")
        if isinstance(self._faces, PhotographedFaces):
            return pad_photo(self._faces.photo(instance, view), size)
        return photograph(self._face(instance, 0), make_photo_setup(self.config.seed, instance, view), size)

    def encode_photo(self, instance: int, view: int = 0, side_px: int = PHOTO_SIDE_PX) -> bytes:
        """Return a square photograph of product `instance`, as `instance_image`, as PNG."""
        image = self.instance_image(instance, (side_px, side_px), view=view)
        return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())

    def query_views(self, instance: int) -> range:
        """Return the views of `instance_image` for questions: photographs that are never in the stream."""
        if isinstance(self._faces, PhotographedFaces):
            return self._faces.query_views(instance)
        return range(1, _SNAPSHOT_VIEWS + 1)

    @property
    def photographed(self) -> bool:
        """Whether products have real photographs; then a name means the same product in all worlds."""
        return isinstance(self._faces, PhotographedFaces)

    def product(self, instance: int) -> str:
        """Return the name of product `instance`: of its folder of photographs, or by its number."""
        return (
            self._faces.product(instance)
            if isinstance(self._faces, PhotographedFaces)
            else f"product-{instance}"
        )

    def _make_face(self, instance: int, view: int) -> Face:
        return Face.from_rgba(self._faces.face(instance, view))

    def _copy_room(self, size: Size, view: View) -> NDArray[np.uint8]:
        """Return a copy (H, W, 3) of the empty room, shifted by the camera's shake."""
        room, margin = self._room(size)
        y, x = margin - round(view.dy * size[0]), margin - round(view.dx * size[1])
        return np.array(room[y : y + size[0], x : x + size[1]], np.uint8)

    def _draw_room(self, size: Size) -> tuple[NDArray[np.uint8], int]:
        """Return the room with a margin of repeated edges for the camera's shake, and the margin's pixels."""
        image = _apply_lens(self._layout.lens, self._backdrop.picture(size))  # (H, W, 3)
        canvas = Canvas(image, View(self._layout.mirror, lens=self._layout.lens))
        draw_fixtures(canvas, self._layout, advert=self.config.advert)
        for prop in self._director.facings:
            canvas.face(self._face(prop.instance, prop.picture), prop.centre, prop.side, light=0.92)
        margin = math.ceil(self.config.shake_px / 112.0 * max(size)) + 1
        border = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        return np.asarray(border, np.uint8), margin

    def _draw_distractors(self, canvas: Canvas, stage: Stage, t: float) -> None:
        """Draw what moves and is no answer to a question: advert, walkers, items left on the belt."""
        if self.config.advert:
            instance, picture, colour = self._director.make_advert(t)
            canvas.box(self._layout.advert, colour)
            x, y = box_centre(self._layout.advert)
            canvas.face(
                self._face(instance, picture),
                (x, y),
                0.75 * (self._layout.advert[3] - self._layout.advert[1]) / ASPECT,
            )
        from_left = self._layout.shelf_right
        config = self.config
        for walker in make_walkers(
            config.seed, t, config.walkers, wardrobe=config.wardrobe, from_left=from_left
        ):
            draw_walker(canvas, walker)
        for prop in stage.parked:
            canvas.face(self._face(prop.instance, prop.picture), prop.centre, prop.side)

    def _draw_acts(self, canvas: Canvas, stage: Stage, t: float, hide_active: bool) -> None:
        """Draw the acts: those near the camera over the others, what passes over everything."""
        for act in stage.acts:
            if act.pose.weight is not None:
                draw_display(canvas, self._layout, act.pose.weight, self.config.cue_strength)
        for near in (False, True):
            acts = [act for act in stage.acts if act.pose.near is near]
            self._draw_layer(canvas, acts, t, hide_active)
        for act in stage.acts:
            if act.passing:
                draw = draw_passing_coat if act.passing_coat else draw_basket
                draw(canvas, act.passing, act.passing_colour)

    def _draw_layer(self, canvas: Canvas, acts: list[Act], t: float, hide_active: bool) -> None:
        """Draw arms, products over them, then garments and fingers over the products."""
        for act in acts:
            self._draw_hands(canvas, act, t, draw_arm)
        for act in acts:
            self._draw_product(canvas, act, hide_active)
            if act.pose.garment:
                coat = self._make_person(act.event.hands, t).coat
                draw_garment(canvas, act.pose.centre, act.pose.side, act.pose.hidden_below, coat)
            self._draw_hands(canvas, act, t, draw_fingers)

    def _draw_product(self, canvas: Canvas, act: Act, hidden: bool) -> None:
        pose, strength = act.pose, self.config.cue_strength
        if not hidden:
            canvas.face(self._face(act.event.instance, act.picture), pose.centre, pose.side, pose.angle)
        if pose.in_bag:
            draw_bag_front(canvas, self._layout)
        if pose.line:
            draw_line(canvas, pose.line, strength)
        if pose.patch and strength and not hidden:
            draw_patch(canvas, pose.centre, pose.side * pose.patch, strength)

    def _draw_hands(self, canvas: Canvas, act: Act, t: float, draw: _HandDrawing) -> None:
        for hand in act.pose.hands:
            number = act.event.hands + (_CLERK_HANDS if hand.clerk else 0)
            draw(canvas, hand, self._make_person(number, t))

    def _make_person(self, hands: int, t: float) -> Person:
        return make_person(self.config.seed, t, hands, self.config.wardrobe)


def _apply_lens(lens: Lens, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of a picture (H, W, 3) of the room as `lens` shows it."""
    height, width = image.shape[:2]
    pixels = np.diag([width, height]) @ lens.affine @ np.diag([1 / width, 1 / height, 1.0])  # (2, 3)
    # OpenCV's pixel centres are whole numbers, ours are halves.
    pixels[:, 2] += pixels[:, :2] @ (0.5, 0.5) - 0.5
    seen = cv2.warpAffine(image, pixels, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint8)
