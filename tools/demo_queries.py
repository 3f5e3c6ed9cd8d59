"""Make a fixed set of questions about the demo world, for tools that compare answers or time them."""

from __future__ import annotations

from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.simulation.world import World
from engines.manifest import Manifest

KINDS = ("activity", "object", "time")


def make_questions(world: World, manifest: Manifest, products: int = 6) -> dict[str, list[AnyQuery]]:
    """Return questions of each kind without a time span: `products` photos, all activities, pairs of them."""
    photos = [Photos(photos=(world.encode_photo(instance, side_px=128),)) for instance in range(products)]
    names = [activity.name for activity in manifest.classes]
    pairs = [(photo, names[i % len(names)]) for i, photo in enumerate(photos * 3)]
    return {
        "activity": [ActivityQuery(object=photo) for photo in photos],
        "object": [ObjectQuery(activity=name) for name in names],
        "time": [TimeQuery(activity=name, object=photo) for photo, name in pairs],
    }
