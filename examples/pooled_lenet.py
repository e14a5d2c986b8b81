"""A LeNet of ReLU and average pools, which shared inference can walk: `leakbench private-inference`."""

from torch import nn


class PooledLeNet(nn.Module):
    """Two 5x5 convolutions, each with ReLU and an average pool of 2 x 2 pixels, and a linear layer."""

    def __init__(self, image_shape=(1, 28, 28), classes=10, channels=12):
        super().__init__()
        inputs, height, width = image_shape
        self.features = nn.Sequential(
            nn.Conv2d(inputs, channels, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(channels, channels, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.scores = nn.Linear(channels * (height // 4) * (width // 4), classes)

    def forward(self, images):
        """Images (B, C, H, W) to class scores (B, classes)."""
        return self.scores(self.features(images).flatten(1))
