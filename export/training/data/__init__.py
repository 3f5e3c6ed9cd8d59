"""Training data: videos, photos, scenes, augmentation, caches."""
