"""The proof that every value of an exact Winograd convolution fits where it is kept.

What must be proved for a layer, from its real weights and the codes of its input:

- an input tile after B^T d B, plus an offset per position, lies in 0..255. With the sums p and n of
  the positive and negative coefficients of a position and codes in low..high, its values span
  (p + n) * (high - low), and the offset is n * high - p * low. What it adds is a constant by pixel
  of a tile, A^T (offset * sum of the transformed weights) A, and taken off there (``winograd``);
- the transformed weights are bytes or sums of bytes. Where bytes are added in int16, two bytes make
  each of them (``x86_bytes_overflow``); vpdpbusd multiplies what exceeds a byte in further steps
  (``x86_vnni_overflow``); elsewhere a position in which one exceeds 127 is split into two summands,
  which costs one more product there (``split``);
- the accumulator times the power of two in the scale lies in int32. Partial sums may wrap: addition
  modulo 2**32 is exact if its result fits, and the odd factor of the scale has an inverse there.

Processors that multiply signed bytes take 128 from the offset where values span more than 127.

Where bytes do not hold the values, int16 does for both operands, without offsets or splits. It has
room for more than G g G^T: factors of A go there, and the sums need fewer additions
(``scaled_up``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.cpu.winograd.transforms import Transform
from gmpq.ir import Conv2d, QParams

Integers: TypeAlias = NDArray[np.int64]
IntArray: TypeAlias = NDArray[np.int16] | NDArray[np.int32]

INT8_MAX = np.iinfo(np.int8).max
INT16_MAX = np.iinfo(np.int16).max
REMEMBERED = 4  # proofs of one layer, which is asked for refusals, then for candidates


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """What the proof found: offsets, transformed weights and largest inputs by position."""

    transform: Transform
    offsets: Integers  # [positions], which inputs are kept with
    dtype: str  # of operands: int8, or int16
    weights: NDArray[np.int8] | NDArray[np.int16]  # [positions + splits, O, I]
    splits: tuple[int, ...]  # positions whose second summands follow after the first ones
    sums: Integers  # [positions, O], of the transformed weights over the input channels
    spans: Integers  # [positions], what the largest transformed input exceeds the smallest by


@lru_cache(maxsize=REMEMBERED)
def prove(node: Conv2d, qx: QParams, transform: Transform) -> Proof | str:
    """Return the proof that every value fits a byte, or the reason why one does not."""
    low, high = min(qx.low, qx.zero_point), max(qx.high, qx.zero_point)
    positive, negative = _signs(transform)
    spans = (positive + negative) * (high - low)
    if (span := int(spans.max())) > 255:
        return f"{transform} spreads {high - low + 1} input codes over {span + 1}: 256 fit"
    weights = transformed(node.weight.codes, transform)
    if (most := int(_largest(weights))) > INT16_MAX:
        return f"{transform} makes weights of {most}: int16 holds {INT16_MAX}"
    if reason := _overflow(node, qx, transform):
        return reason
    offsets, sums = negative * high - positive * low, weights.sum(axis=2, dtype=np.int64)
    return Proof(transform, offsets, "int8", weights.astype(np.int16, copy=False), (), sums, spans)


@lru_cache(maxsize=REMEMBERED)
def prove_int16(node: Conv2d, qx: QParams, transform: Transform) -> Proof | str:
    """Return the proof that every value fits int16, or the reason why one does not."""
    low, high = min(qx.low, qx.zero_point), max(qx.high, qx.zero_point)
    positive, negative = _signs(transform)
    largest = int(np.maximum(positive * high - negative * low, negative * high).max())
    if largest > INT16_MAX:
        return f"{transform} makes inputs of {largest}: int16 holds {INT16_MAX}"
    weights = transformed(node.weight.codes, transform)
    if (most := int(_largest(weights))) > INT16_MAX:
        return f"{transform} makes weights of {most}: int16 holds {INT16_MAX}"
    if reason := _overflow(node, qx, transform):
        return reason
    spans = (positive + negative) * (high - low)
    widened = weights.astype(np.int16, copy=False)
    sums = weights.sum(axis=2, dtype=np.int64)
    return Proof(transform, np.zeros_like(positive), "int16", widened, (), sums, spans)


def scaled_up(proof: Proof, node: Conv2d) -> Proof:
    """Return the proof for int16 with factors of A in the weights, as far as int16 holds them."""
    assert proof.dtype == "int16"
    most = int(np.abs(node.weight.codes.astype(np.int32)).max(initial=1))
    transform = proof.transform.scaled_up(isqrt(INT16_MAX // most))
    both = _quotients(transform, proof.transform)
    assert (both * _largest(proof.weights, axis=(1, 2))).max() <= INT16_MAX
    weights = proof.weights * both.astype(np.int16)[:, None, None]
    return replace(proof, transform=transform, weights=weights, sums=proof.sums * both[:, None])


def scaled_down(proof: Proof) -> Proof:
    """Return the proof for bytes with common factors of G in A: kernels take fewer additions."""
    assert proof.dtype == "int8"
    transform = proof.transform.scaled_down
    both = _quotients(proof.transform, transform)
    weights = proof.weights // both.astype(np.int16)[:, None, None]
    return replace(proof, transform=transform, weights=weights, sums=proof.sums // both[:, None])


def _quotients(larger: Transform, smaller: Transform) -> Integers:
    """Return how many times the weights of each position are as large: int64 [positions]."""
    pairs = zip(larger.weight, smaller.weight, strict=True)
    factors = np.array([sum(map(abs, a)) // sum(map(abs, b)) for a, b in pairs])
    return np.outer(factors, factors).reshape(-1)


def exceeds(proof: Proof, limit: int = INT8_MAX) -> bool:
    """Return whether some weight exceeds ``limit``."""
    return int(_largest(proof.weights)) > limit


def in_two_bytes(proof: Proof) -> Proof | str:
    """Return the proof, or the reason why two bytes do not make each weight."""
    if (most := int(_largest(proof.weights))) > 2 * INT8_MAX:
        return f"{proof.transform} makes weights of {most}: two bytes hold {2 * INT8_MAX}"
    return proof


def split(proof: Proof) -> Proof | str:
    """Return the proof with weights that are bytes, some positions as two summands.

    Or the reason why two bytes do not make each weight.
    """
    if isinstance(found := in_two_bytes(proof), str):
        return found
    whole = proof.weights.astype(np.int16)
    first = np.clip(whole, -INT8_MAX, INT8_MAX)
    splits = np.flatnonzero((whole != first).any(axis=(1, 2)))
    parts = np.concatenate([first, whole[splits] - first[splits]]).astype(np.int8)
    return replace(proof, weights=parts, splits=tuple(splits.tolist()))


def signed(proof: Proof) -> Proof:
    """Return the proof with inputs that are signed bytes, less 128 where they span more codes."""
    return replace(proof, offsets=proof.offsets + signed_lows(proof.spans))


def part_spans(proof: Proof) -> Integers:
    """Return the spans of all positions, then again of split ones: [positions + splits]."""
    return np.concatenate([proof.spans, proof.spans[list(proof.splits)]])


def signed_lows(spans: Integers) -> Integers:
    """Return the smallest signed bytes of inputs that span ``spans`` [positions]."""
    return np.where(spans > INT8_MAX, -INT8_MAX - 1, 0)


def _signs(transform: Transform) -> tuple[Integers, Integers]:
    """Return the sums of positive and of negative coefficients by position."""
    matrix = np.array(transform.input, np.int64)
    flat = np.einsum("ia,jb->ijab", matrix, matrix).reshape(transform.positions, -1)
    return np.maximum(flat, 0).sum(axis=1), np.maximum(-flat, 0).sum(axis=1)


def _overflow(node: Conv2d, qx: QParams, transform: Transform) -> str | None:
    """Return how the layer's accumulators exceed int32, or None."""
    if (bound := transform.power_of_two * _largest_sum(node, qx)) >= 1 << 31:
        return f"{transform} makes accumulators of {bound}: int32 holds {(1 << 31) - 1}"
    return None


def transformed(codes: NDArray[np.int8], transform: Transform) -> IntArray:
    """Return G g G^T by position [positions, O, I] of weight codes [O, I, 3, 3]."""
    matrix = np.array(transform.weight, np.float64)  # matrix products of whole numbers are exact
    both = np.kron(matrix, matrix)
    fits = 128 * np.abs(both).sum(axis=1).max() <= INT16_MAX
    dtype = np.int16 if fits else np.int32
    weights = np.empty((transform.positions, *codes.shape[:2]), dtype)
    for output, taps in enumerate(codes):  # one by one, for float64 takes much memory
        weights[:, output] = both @ taps.reshape(len(taps), -1).T.astype(np.float64)
    return weights


def _largest(weights: NDArray[np.integer[Any]], axis: tuple[int, ...] | None = None) -> Integers:
    """Return the largest absolute values along ``axis``, without an array of all of them."""
    highest, lowest = weights.max(axis, initial=0), weights.min(axis, initial=0)
    return np.asarray(np.maximum(highest.astype(np.int64), -lowest.astype(np.int64)))


def _largest_sum(node: Conv2d, qx: QParams) -> int:
    """Return a bound on the accumulator's absolute value, bias included."""
    low, high = min(qx.low - qx.zero_point, 0), max(qx.high - qx.zero_point, 0)
    flat = node.weight.codes.reshape(len(node.weight.codes), -1)
    positive = np.maximum(flat, 0).sum(axis=1, dtype=np.int64)
    negative = -np.minimum(flat, 0).sum(axis=1, dtype=np.int64)
    largest = np.maximum(positive * high - negative * low, negative * high - positive * low)
    return int((largest + np.abs(node.weight.bias.astype(np.int64))).max())
