"""What becomes of accumulators before they leave the registers.

    code = clip(round_half_even(float32(acc) * factor) + zero_point, low, high)
    y    = code                                                    or, with a residual r,
    y    = clip(code - z_code + r - z_r + z_y, low_y, high_y)      all of one scale

What is stored are these codes, requantized copies of them, or both. At a network's output there
may be no codes, and ``float32(acc) * factor`` is stored as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.base import Tensor
from gmpq.backends.tvm.kernels.gpu.isa import instructions
from gmpq.backends.tvm.kernels.gpu.isa.builder import (
    WORD,
    Buffer,
    Expr,
    clip,
    code_of,
    register,
    run,
    store,
    value_of,
    view,
    word_of,
)
from gmpq.backends.tvm.kernels.gpu.isa.layer import Pixel
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.kernels.requant import exact_factor, start_and_factor
from gmpq.ir import Conv2d, Linear, QParams

Parameter: TypeAlias = tuple[str, str]  # name and element type of a pointer


@dataclass(frozen=True, slots=True)
class Stored:
    """What a kernel stores: a layer's codes, a requantized copy, or a layer's float32 values."""

    layout: Layout
    q: QParams | None
    factor: float | None = None  # of a copy


@dataclass(frozen=True, slots=True)
class Epilogue:
    """How the accumulators of a layer become what is stored."""

    outputs: tuple[Stored, ...]
    q: QParams | None  # of the layer's own codes; None where its one output is float32
    term: Tensor | None  # the residual
    total: QParams | None  # of the sum, or of the layer's own codes

    @classmethod
    def of(cls, site: Site) -> Epilogue:
        """Return the requantization, the residual addition and the copies of ``site``."""
        outputs = tuple(_stored(site, tensor) for tensor in site.results)
        term = site.addition.term if site.addition else None
        return cls(outputs, site.output.value.q, term, site.result.value.q)

    @property
    def dtype(self) -> str:
        """Type of what is stored."""
        return "float32" if self.q is None else "uint32"

    def parameters(self, x: Parameter, constants: Sequence[Parameter]) -> tuple[Parameter, ...]:
        """Return the parameters of a kernel: input, residual, constants, outputs."""
        terms = [("residual", "uint32")] if self.term else []
        results = [(f"y{i}", self.dtype) for i in range(len(self.outputs))]
        return (x, *terms, *constants, *results)

    def bind(self, pointers: Sequence[Expr]) -> tuple[Sequence[Expr], BoundEpilogue]:
        """Return the constants among the pointers after x, and the epilogue with its memory."""
        first, last = 1 if self.term else 0, len(pointers) - len(self.outputs)
        residual = None
        if self.term is not None:
            residual = view(pointers[0], "uint32", self.term.codes.size_bytes // WORD)
        size = 1 if self.q is None else WORD
        outputs = tuple(
            view(pointer, self.dtype, stored.layout.size // size)
            for pointer, stored in zip(pointers[last:], self.outputs, strict=True)
        )
        return pointers[first:last], BoundEpilogue(self, residual, outputs)


def _stored(site: Site, tensor: Tensor) -> Stored:
    if tensor is site.result:
        return Stored(tensor.codes, tensor.value.q)
    factor = exact_factor(site.result.q, tensor.q)
    assert factor is not None, "fuse takes copies that one factor makes"
    return Stored(tensor.codes, tensor.q, float(factor))


@dataclass(frozen=True, slots=True)
class BoundEpilogue:
    """An epilogue with the memory that it reads and writes."""

    epilogue: Epilogue
    residual: Buffer | None
    outputs: tuple[Buffer, ...]

    def finish(self, pixel: Pixel, channel: Expr, sums: list[Expr], factors: list[Expr]) -> None:
        """Store neighbouring channels, a multiple of four, of a pixel: image, row, column."""
        if self.epilogue.q is None:
            self._store_reals(pixel, channel, sums, factors)
            return
        name, source = instructions.requantized(self.epilogue.q)
        pairs = zip(sums, factors, strict=True)
        codes = [register(value_of(name, "int32", *pair, source=source)) for pair in pairs]
        if self.epilogue.term is not None:
            codes = self._summed(pixel, channel, codes)
        for stored, memory in zip(self.epilogue.outputs, self.outputs, strict=True):
            words = _words(self._copied(stored, codes))
            _store(memory, _place(stored.layout, pixel, channel), words)

    def _summed(self, pixel: Pixel, channel: Expr, codes: list[Expr]) -> list[Expr]:
        """Return the codes of the sums with the residual."""
        q, term, total = self.epilogue.q, self.epilogue.term, self.epilogue.total
        assert q is not None
        assert term is not None
        assert total is not None
        assert self.residual is not None
        place = _place(term.codes, pixel, channel)
        shift = total.zero_point - q.zero_point - term.q.zero_point
        found = []
        for number in range(len(codes) // WORD):
            word = register(self.residual[place + number], "uint32")
            for byte in range(WORD):
                own = codes[number * WORD + byte]
                found.append(
                    register(
                        clip(own + code_of(word, byte) + T.int32(shift), total.low, total.high)
                    )
                )
        return found

    def _copied(self, stored: Stored, codes: list[Expr]) -> list[Expr]:
        """Return the codes of an output."""
        if stored.factor is None:
            return codes
        assert stored.q is not None
        assert self.epilogue.total is not None
        name, source = instructions.requantized(stored.q)
        zero, factor = T.int32(self.epilogue.total.zero_point), T.float32(stored.factor)
        return [register(value_of(name, "int32", c - zero, factor, source=source)) for c in codes]

    def _store_reals(
        self, pixel: Pixel, channel: Expr, sums: list[Expr], factors: list[Expr]
    ) -> None:
        (stored,), (memory,) = self.epilogue.outputs, self.outputs
        layout = stored.layout
        first = register(_place(layout, pixel, channel) * WORD)
        for i, pair in enumerate(zip(sums, factors, strict=True)):
            real = value_of("rescaled", "float32", *pair, source=instructions.PRODUCT)
            store(memory, first + i, real)


def _place(layout: Layout, pixel: Pixel, channel: Expr) -> Expr:
    """Return the place of a pixel's channel, counted as uint32."""
    image, row, column = pixel
    start = layout.origin + image * layout.image + row * layout.row + column * layout.stored
    return (start + channel) // WORD


def _words(codes: list[Expr]) -> list[Expr]:
    return [register(word_of(codes[i : i + WORD]), "uint32") for i in range(0, len(codes), WORD)]


def _store(memory: Buffer, place: Expr, words: list[Expr]) -> None:
    """Store one, two or a multiple of four words at once; a thread's channels are aligned so."""
    if len(words) == 1:
        store(memory, place, words[0])
    elif len(words) == 2:
        run("store8", T.address_of(memory[place]), *words, source=instructions.STORE8)
    else:
        for i in range(0, len(words), 4):
            target = T.address_of(memory[place + i])
            run("store16", target, *words[i : i + 4], source=instructions.STORE16)


def constants_of(site: Site, channels: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the starts and factors of a layer, both padded to [channels]."""
    assert isinstance(site.node, Conv2d | Linear)
    start, factor = start_and_factor(site.node.weight, site.inputs[0].q, site.output.value.q)
    missing = (0, channels - len(start))
    return np.pad(start, missing), np.pad(factor, missing)
