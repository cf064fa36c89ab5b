"""Draw street scenes with exact boxes from a seed: data for training and tests without a download."""

from deploycc.scenes.scene import CLASS_NAMES, Scene, draw_scene

__all__ = ["CLASS_NAMES", "Scene", "draw_scene"]
