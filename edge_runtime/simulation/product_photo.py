"""A catalogue photo of a product of the checkout world."""

from __future__ import annotations

import cv2

from edge_runtime.simulation.world import World

PHOTO_SIDE_PX = 160


def product_photo(world: World, instance: int, view: int = 0, side_px: int = PHOTO_SIDE_PX) -> bytes:
    """PNG of a photograph of product `instance`, square."""
    image = world.instance_image(instance, (side_px, side_px), view=view)
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
