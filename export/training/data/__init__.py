"""Training material: videos, photos, scenes, augmentation, caches."""
