"""EfficientNet-Lite0 (tensorflow/tpu, 2020), from the package ``efficientnet-lite-pytorch``."""

from __future__ import annotations

from torch import nn

from gmpq.errors import LoweringError, install_extra
from gmpq.models.arch import Arch


def _build() -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise LoweringError(
            f"efficientnet_lite0: the network is in another package: {install_extra('demo')}"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    assert isinstance(network, nn.Module)
    return network


ARCHS = (Arch("efficientnet_lite0", _build, (3, 224, 224)),)
