"""The closed form and the backward pass are the same map, with the same gradients .

Grad-CAM as in Wang et al., arXiv:2108.02720, and in the authors' released code.
"""

from __future__ import annotations

import torch
from torch import nn

from gmpq import models
from gmpq.search.differentiable.attribution import (
    Features,
    Head,
    attribute,
    cam,
    count_empty,
    grad_cam,
    normalize,
    observe,
    teach,
)
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.differentiable.losses import attribution_loss
from tests.search.differentiable.small import SHAPE, Small, Squared

CLOSED = Head("features", "head")
OPEN = Head("features", None)


def test_both_ways_give_the_same_map() -> None:
    torch.manual_seed(0)
    network = models.find("cifar_resnet8").build().eval()
    images = torch.randn(3, 3, 16, 16)
    observed = observe(network, inspect_network(network, (3, 16, 16)).head, images)
    classes = observed.logits.argmax(1)
    torch.testing.assert_close(
        cam(observed.features, network.fc.weight, classes), grad_cam(observed, classes)
    )


def test_both_ways_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = Small()
    images, target = torch.rand(4, *SHAPE), torch.rand(4, 6, 6)
    found = []
    for head in (CLOSED, OPEN):
        network.zero_grad()
        observed = observe(network, head, images)
        maps = attribute(network, head, observed, observed.logits.argmax(1))
        attribution_loss(maps, target, torch.tensor(2.0)).backward()
        found.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    closed, opened = found
    assert closed["head.weight"].any()
    assert closed["stem.weight"].any()
    for name, gradient in closed.items():
        torch.testing.assert_close(gradient, opened[name], atol=1e-6, rtol=1e-4)


def test_the_backward_pass_can_be_differentiated() -> None:
    """With F = x and logits = sum of w x^2, g is 2 w x: the map is relu(sum 2 w x * x)."""
    features = torch.rand(2, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, dtype=torch.float64)

    def of(x: torch.Tensor) -> torch.Tensor:
        logits = (x.square() * weight[:, None, None]).sum((1, 2, 3))[:, None]
        return grad_cam(Features(logits, x), torch.zeros(2, dtype=torch.int64))

    expected = (2 * weight[:, None, None] * features.square()).sum(1)
    torch.testing.assert_close(of(features), expected)
    assert torch.autograd.gradcheck(of, features)


def test_maps_add_no_gradients_of_their_own() -> None:
    network = Small()
    observed = observe(network, OPEN, torch.rand(2, *SHAPE))
    attribute(network, OPEN, observed, observed.logits.argmax(1))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_teacher_stays_as_it_is() -> None:
    for network, head in ((Small(), CLOSED), (Squared(), OPEN)):
        teacher = network.eval().requires_grad_(False)
        before = {key: value.clone() for key, value in teacher.state_dict().items()}
        maps, _ = teach(teacher, head, torch.randn(16, *SHAPE), None)
        assert maps.shape == (16, 6, 6)
        assert maps.any()
        assert not maps.requires_grad
        assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_a_teacher_explains_its_own_class_unless_asked() -> None:
    torch.manual_seed(0)
    teacher = Small().eval().requires_grad_(False)
    images = torch.rand(4, *SHAPE)
    own = teacher(images).argmax(1)
    maps, classes = teach(teacher, CLOSED, images, None)
    assert torch.equal(classes, own)
    torch.testing.assert_close(teach(teacher, CLOSED, images, own)[0], maps)
    assert not torch.equal(teach(teacher, CLOSED, images, (own + 1) % 3)[0], maps)


def test_empty_maps_are_counted_and_harmless() -> None:
    maps = torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]], requires_grad=True)
    assert count_empty(maps) == 1
    loss = attribution_loss(maps, torch.rand(2, 1, 2), torch.tensor(3.0))
    loss.backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert normalize(maps).tolist() == [[0, 0], [0, 1]]


def test_hooks_are_gone() -> None:
    network: nn.Module = Small()
    observe(network, CLOSED, torch.rand(1, *SHAPE))
    assert not any(part._forward_hooks for part in network.modules())
