"""Networks under attack, one a file, and the registry of them."""

from bench.models.base import Model
from bench.models.cnn import CNN
from bench.models.lenet import LeNet
from bench.models.mlp import MLP
from bench.models.resnet import ResNet20, ResNet56
from bench.models.user import ModelRegistry

__all__ = ["MODELS", "Model"]

MODELS = ModelRegistry("model", Model, [CNN, LeNet, MLP, ResNet20, ResNet56])  # type: ignore[type-abstract]
