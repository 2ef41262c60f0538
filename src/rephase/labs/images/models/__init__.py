"""Classifiers of diffraction images: one table."""

from rephase.labs.images.models.networks import VGG16, VGG19, ImageClassifier, ResNet18, ResNet34, ResNet50

IMAGE_MODELS: dict[str, type[ImageClassifier]] = {
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "vgg16": VGG16,
    "vgg19": VGG19,
}
