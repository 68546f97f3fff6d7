"""ResNets (He et al. 2015, arXiv:1512.03385), with the key names of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gmpq.models.arch import Arch

IMAGENET = (3, 224, 224)
CIFAR = (3, 32, 32)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many blocks of which kind: stage i has ``width << i`` channels inside a block."""

    block: Callable[[int, int, int], nn.Module]  # of input channels, width and stride
    expansion: int  # a block's output channels over its width
    blocks: tuple[int, ...]  # per stage
    width: int = 64


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(width, width, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output [N, width, H / stride, W / stride]."""
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        total: torch.Tensor = self.relu(branch + _identity(x, self.downsample))
        return total


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution that widens four times, and a shortcut.

    The stride stands in the 3x3 convolution (version 1.5), or in the first 1x1 (version 1).
    """

    def __init__(self, inputs: int, width: int, stride: int, *, stride_first: bool = False) -> None:
        super().__init__()
        self.conv1 = _conv1x1(inputs, width, stride if stride_first else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1 if stride_first else stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv1x1(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output [N, 4 * width, H / stride, W / stride]."""
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        total: torch.Tensor = self.relu(branch + _identity(x, self.downsample))
        return total


def _conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def _conv1x1(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def _identity(x: torch.Tensor, shortcut: nn.Sequential | None) -> torch.Tensor:
    return x if shortcut is None else shortcut(x)


def bottleneck_v1(inputs: int, width: int, stride: int) -> nn.Module:
    """Return the bottleneck of the paper, with the stride in its first convolution."""
    return Bottleneck(inputs, width, stride, stride_first=True)


def _stage(plan: Plan, index: int) -> nn.Sequential:
    """Return the stage ``index`` of a plan: every stage but the first halves the image."""
    width = plan.width << index
    inputs = plan.width if index == 0 else plan.expansion * width // 2
    first = plan.block(inputs, width, 1 if index == 0 else 2)
    rest = (plan.block(plan.expansion * width, width, 1) for _ in range(plan.blocks[index] - 1))
    return nn.Sequential(first, *rest)


class ResNet(nn.Module):
    """A stem, three or four stages, and a classifier.

    The stem for ImageNet is a 7x7 convolution and a max pool, for 32x32 images a 3x3 convolution.
    """

    def __init__(self, plan: Plan, classes: int, *, small: bool = False) -> None:
        super().__init__()
        width, stages = plan.width, len(plan.blocks)
        self.conv1 = _conv3x3(3, width, 1) if small else nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3 = (_stage(plan, index) for index in range(3))
        self.layer4 = _stage(plan, 3) if stages == 4 else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(plan.expansion * (width << (stages - 1)), classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes] of images [N, 3, H, W]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _imagenet(plan: Plan) -> Callable[[], nn.Module]:
    return lambda: ResNet(plan, 1000)


def _cifar(plan: Plan) -> Callable[[], nn.Module]:
    return lambda: ResNet(plan, 10, small=True)


ARCHS = (
    Arch("resnet18", _imagenet(Plan(BasicBlock, 1, (2, 2, 2, 2))), IMAGENET),
    Arch("resnet34", _imagenet(Plan(BasicBlock, 1, (3, 4, 6, 3))), IMAGENET),
    Arch("resnet50", _imagenet(Plan(Bottleneck, 4, (3, 4, 6, 3))), IMAGENET),
    Arch("resnet50_v1", _imagenet(Plan(bottleneck_v1, 4, (3, 4, 6, 3))), IMAGENET),
    Arch("cifar_resnet8", _cifar(Plan(BasicBlock, 1, (1, 1, 1), 16)), CIFAR),
    Arch("cifar_resnet8_wide", _cifar(Plan(BasicBlock, 1, (1, 1, 1), 24)), CIFAR),
    Arch("cifar_resnet20", _cifar(Plan(BasicBlock, 1, (3, 3, 3), 16)), CIFAR),
    Arch("cifar_resnet18", _cifar(Plan(BasicBlock, 1, (2, 2, 2, 2))), CIFAR),
    Arch("cifar_resnet50", _cifar(Plan(Bottleneck, 4, (3, 4, 6, 3))), CIFAR),
)
