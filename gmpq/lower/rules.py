"""Which function lowers which ATen operator, and what to say of some that none can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch

from gmpq.lower import activations, affine, elementwise, layers, layout, pooling
from gmpq.lower.call import Call, Operand

aten = torch.ops.aten

Rule: TypeAlias = Callable[[Call], Operand]

RULES: Mapping[object, Rule] = MappingProxyType(
    {
        aten.conv2d.default: layers.conv2d,
        aten.conv2d.padding: layers.conv2d_named_padding,
        aten.linear.default: layers.linear,
        aten.batch_norm.default: layers.batch_norm,
        aten._native_batch_norm_legit_no_training.default: layers.batch_norm,
        aten.relu.default: activations.relu,
        aten.relu6.default: activations.relu6,
        aten.hardtanh.default: activations.hardtanh,
        aten.clamp.default: activations.clamp,
        aten.clip.default: activations.clamp,
        aten.clamp_min.default: activations.clamp_min,
        aten.clamp_max.default: activations.clamp_max,
        aten.leaky_relu.default: activations.leaky_relu,
        aten.prelu.default: activations.prelu,
        aten.silu.default: activations.silu,
        aten.hardswish.default: activations.hardswish,
        aten.sigmoid.default: activations.sigmoid,
        aten.softmax.int: activations.softmax,
        aten.mul.Tensor: affine.multiply,
        aten.div.Tensor: affine.divide,
        aten.add.Tensor: affine.add,
        aten.sub.Tensor: affine.subtract,
        aten.rsub.Scalar: affine.subtract_from,
        aten.rsub.Tensor: affine.subtract_from,
        aten.neg.default: affine.negate,
        aten.cat.default: elementwise.concat,
        aten.concat.default: elementwise.concat,
        aten.max_pool2d.default: pooling.max_pool2d,
        aten.avg_pool2d.default: pooling.avg_pool2d,
        aten.adaptive_avg_pool2d.default: pooling.adaptive_avg_pool2d,
        aten.mean.dim: pooling.mean,
        aten.pad.default: layout.pad,
        aten.upsample_nearest2d.vec: layout.upsample,
        aten._upsample_nearest_exact2d.vec: layout.upsample,
        aten.view.default: layout.reshape,
        aten._unsafe_view.default: layout.reshape,
        aten.reshape.default: layout.reshape,
        aten.flatten.using_ints: layout.reshape,
        aten.squeeze.default: layout.reshape,
        aten.squeeze.dim: layout.reshape,
        aten.squeeze.dims: layout.reshape,
        aten.unsqueeze.default: layout.reshape,
        aten.select.int: layout.select,
        aten.expand.default: layout.expand,
        aten.permute.default: layout.permute,
        aten.transpose.int: layout.transpose,
        aten.dropout.default: layout.dropout,
        aten.clone.default: layout.identity,
        aten.detach.default: layout.identity,
        aten.alias.default: layout.identity,
        aten._to_copy.default: layout.identity,
    }
)

# One operator has one name, whether the graph is as written or made functional.
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "_native_batch_norm_legit_no_training": "batch_norm",
        "_unsafe_view": "view",
        "reshape": "view",
        "flatten": "view",
    }
)

DOCUMENT = "docs/operators.md"
OPERATORS = frozenset(str(overload).split(".")[1] for overload in RULES)  # of any overload

CURES: Mapping[str, str] = MappingProxyType(
    {
        "log_softmax": "return the logits, or end in Softmax",
        "gelu": "use ReLU, SiLU or Hardswish",
        "elu": "use LeakyReLU",
        "tanh": "use Hardtanh or Sigmoid",
        "hardsigmoid": "use Sigmoid",
        "layer_norm": "use BatchNorm2d",
        "group_norm": "use BatchNorm2d",
        "instance_norm": "use BatchNorm2d",
        "_native_batch_norm_legit": "keep the running statistics of the batch norm",
        "conv_transpose2d": "use nearest Upsample and Conv2d",
        "conv1d": "use Conv2d with a kernel of one row",
        "split": "give each part its own layer",
        "split_with_sizes": "give each part its own layer",
        "slice": "give each part its own layer",
        "upsample_bilinear2d": "use mode='nearest'",
        "upsample_bicubic2d": "use mode='nearest'",
        "matmul": "use Linear",
        "addmm": "use Linear",
        "max_pool2d_with_indices": "leave out return_indices",
    }
)
