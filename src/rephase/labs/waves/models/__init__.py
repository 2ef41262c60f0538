"""Flows of images: one table."""

from rephase.labs.waves.models.flows import ImageFlow

IMAGE_POSTERIOR_MODELS: dict[str, type[ImageFlow]] = {"image_flow": ImageFlow}
