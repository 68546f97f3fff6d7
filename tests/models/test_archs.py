"""Built-in networks: torchvision's keys, published sizes, and graphs that compute the same."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from gmpq.errors import LoweringError, PolicyError
from gmpq.ir import FloatConv2d, FloatGraph, FloatLinear
from gmpq.models import ARCHS, Arch, find
from tests.support.networks import check_equal, randomized

PARAMETERS = {  # of torchvision's documentation, and of the papers
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50_v1": 25_557_032,
    "cifar_resnet8": 78_042,
    "cifar_resnet8_wide": 174_274,
    "cifar_resnet20": 272_474,
    "cifar_resnet18": 11_173_962,
    "cifar_resnet50": 23_520_842,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "squeezenet1_1": 1_235_496,
    "efficientnet_lite0": 4_652_008,
}

MACS = {
    "resnet18": 1_814_073_344,
    "resnet34": 3_663_761_408,
    "resnet50": 4_089_184_256,
    "resnet50_v1": 3_857_973_248,
    "cifar_resnet8": 12_501_632,
    "cifar_resnet8_wide": 27_796_416,
    "cifar_resnet20": 40_813_184,
    "cifar_resnet18": 555_422_720,
    "cifar_resnet50": 1_297_829_888,
    "mobilenet_v1": 568_740_352,
    "mobilenet_v2": 300_774_272,
    "squeezenet1_1": 349_151_936,
    "efficientnet_lite0": 385_187_552,
}

KEYS = {  # a key of each kind, and its shape, as torchvision's checkpoints have them
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.num_batches_tracked": (),
        "layer4.1.bn2.bias": (512,),
        "fc.bias": (1000,),
    },
    "resnet34": {"layer3.5.conv2.weight": (256, 256, 3, 3), "fc.weight": (1000, 512)},
    "resnet50": {
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer4.2.bn3.running_mean": (2048,),
        "fc.weight": (1000, 2048),
    },
    "resnet50_v1": {"layer3.5.conv3.weight": (1024, 256, 1, 1)},
    "cifar_resnet8": {"conv1.weight": (16, 3, 3, 3), "fc.weight": (10, 64)},
    "cifar_resnet8_wide": {"conv1.weight": (24, 3, 3, 3), "fc.weight": (10, 96)},
    "cifar_resnet20": {"layer3.2.conv2.weight": (64, 64, 3, 3)},
    "cifar_resnet18": {
        "conv1.weight": (64, 3, 3, 3),
        "layer4.0.downsample.0.weight": (512, 256, 1, 1),
    },
    "cifar_resnet50": {"layer4.2.conv3.weight": (2048, 512, 1, 1)},
    "mobilenet_v1": {"model.13.3.weight": (1024, 1024, 1, 1), "fc.bias": (1000,)},
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_mean": (16,),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.bias": (320,),
        "features.18.1.weight": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
    "squeezenet1_1": {
        "features.0.weight": (64, 3, 3, 3),
        "features.3.squeeze.weight": (16, 64, 1, 1),
        "features.12.expand3x3.bias": (256,),
        "classifier.1.weight": (1000, 512, 1, 1),
    },
    "efficientnet_lite0": {"_conv_stem.weight": (32, 3, 3, 3), "_fc.bias": (1000,)},
}


def test_the_tables_have_all_networks() -> None:
    names = {arch.name for arch in ARCHS}
    assert (set(PARAMETERS), set(MACS), set(KEYS)) == (names, names, names)


by_name = pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: arch.name)


def macs(graph: FloatGraph) -> int:
    total = 0
    for node in graph.nodes:
        match node:
            case FloatConv2d(weight=weight) if not node.auxiliary:
                _, _, rows, columns = graph.values[node.output].shape
                total += weight.size * rows * columns
            case FloatLinear(weight=weight):
                total += weight.size
    return total


def layers(module: nn.Module) -> set[str]:
    return {
        name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    }


@by_name
def test_keys_and_parameters(arch: Arch) -> None:
    with torch.device("meta"):
        module = arch.build()
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert KEYS[arch.name].items() <= shapes.items()
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[arch.name]


@by_name
def test_the_graph_of_the_network(arch: Arch) -> None:
    module = randomized(arch.build(), (1, *arch.shape) if arch.shape[1] < 64 else (1, 3, 64, 64))
    graph = check_equal(module, (1, *arch.shape))
    assert macs(graph) == MACS[arch.name]
    lowered = {n.name for n in graph.nodes if isinstance(n, FloatConv2d | FloatLinear)}
    assert lowered == layers(module)  # every batch norm has been absorbed


def test_find_offers_close_names() -> None:
    assert find("resnet18").name == "resnet18"
    with pytest.raises(PolicyError, match=r"unknown network 'resnet81' \(did you mean resnet18"):
        find("resnet81")


def test_find_lists_all_names_where_none_is_close() -> None:
    with pytest.raises(PolicyError, match=r"known: resnet18, .*efficientnet_lite0"):
        find("xyz")


def test_a_missing_package_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(LoweringError, match=r"pip install .* -e '\.\[demo\]'"):
        find("efficientnet_lite0").build()
