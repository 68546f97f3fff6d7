"""MobileNetV1 (Howard et al. 2017, arXiv:1704.04861) and V2 (Sandler et al. 2018, 1801.04381)."""

from __future__ import annotations

import torch
from torch import nn

from gmpq.models.arch import Arch

IMAGENET = (3, 224, 224)

# Output channels and stride of V1's depthwise separable convolutions (table 1 of the paper).
V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)

# Expansion, output channels, repeats and stride of V2's stages (table 2 of the paper).
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV1(nn.Module):
    """MobileNetV1; torchvision has none, so keys are ``model.I.J`` as in common checkpoints."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        inputs = 32
        blocks = [_conv_norm(3, inputs, 3, 2)]
        for outputs, stride in V1_BLOCKS:
            depthwise = _conv_norm(inputs, inputs, 3, stride, inputs)
            blocks.append(nn.Sequential(*depthwise, *_conv_norm(inputs, outputs, 1, 1)))
            inputs = outputs
        self.model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes] of images [N, 3, H, W]."""
        logits: torch.Tensor = self.fc(torch.flatten(self.model(x), 1))
        return logits


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise and linear 1x1 convolution, with a shortcut if shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [_conv_norm(inputs, wide, 1, 1, six=True)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv_norm(wide, wide, 3, stride, wide, six=True),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output [N, outputs, H / stride, W / stride]."""
        branch: torch.Tensor = self.conv(x)
        return x + branch if self.residual else branch


class MobileNetV2(nn.Module):
    """MobileNetV2 with torchvision's key names."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        inputs = 32
        features: list[nn.Module] = [_conv_norm(3, inputs, 3, 2, six=True)]
        for expansion, outputs, repeats, stride in V2_STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                features.append(InvertedResidual(inputs, outputs, step, expansion))
                inputs = outputs
        features.append(_conv_norm(inputs, 1280, 1, 1, six=True))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes] of images [N, 3, H, W]."""
        pooled = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        logits: torch.Tensor = self.classifier(torch.flatten(pooled, 1))
        return logits


def _conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1, *, six: bool = False
) -> nn.Sequential:
    """Return convolution, batch norm and ReLU, or ReLU6 if ``six``."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True) if six else nn.ReLU(inplace=True),
    )


ARCHS = (
    Arch("mobilenet_v1", MobileNetV1, IMAGENET),
    Arch("mobilenet_v2", MobileNetV2, IMAGENET),
)
