"""The networks under attack, one per file, and their registry."""

from leakbench.bench.models.base import Model
from leakbench.bench.models.bert import Bert
from leakbench.bench.models.cnn import CNN
from leakbench.bench.models.lenet import LeNet
from leakbench.bench.models.mlp import MLP
from leakbench.bench.models.resnet import ResNet20, ResNet56
from leakbench.bench.models.user import ModelRegistry

__all__ = ["MODELS", "Model"]

MODELS = ModelRegistry("model", Model, [Bert, CNN, LeNet, MLP, ResNet20, ResNet56])  # type: ignore[type-abstract]
