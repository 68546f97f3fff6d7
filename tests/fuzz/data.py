"""Generated weights, arrays and photographs, most of them damaged."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as save_tensors

from tests.cli.networks import SHAPE, small
from tests.fuzz.documents import COMPILE, WEIGHTS, Workspace
from tests.support.mutants import torn

KINDS = (torch.int8, torch.bool, torch.complex64, torch.float16, torch.float64, torch.bfloat16)


def odd(tensor: torch.Tensor, rng: random.Random) -> Any:
    """Return what stands in a checkpoint in place of ``tensor``."""
    match rng.randrange(10):
        case 0:
            return tensor.to(rng.choice(KINDS))
        case 1:
            return tensor.to(torch.float8_e4m3fn)
        case 2:
            return tensor.to_sparse()
        case 3:
            return tensor.to("meta")
        case 4:
            return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
        case 5:
            return torch.full_like(tensor, rng.choice((float("nan"), float("inf"), 1e38, 1e-45)))
        case 6:
            return tensor[None] if rng.random() < 0.5 else tensor[:0]
        case 7:
            return rng.choice((None, 3, "x", [], {}, [tensor], {"a": tensor}, b"x", 1.5))
        case 8:
            return tensor.double() * 1e300
        case _:
            return torch.nested.nested_tensor([tensor.flatten(), tensor.flatten()[:1]])


def checkpoint(rng: random.Random) -> Any:
    """Return what a checkpoint holds."""
    state: Any = dict(small().state_dict())
    key = rng.choice(list(state))
    match rng.randrange(5):
        case 0:
            del state[key]
        case 1:
            state[rng.choice(("", "x", "module.x", key + ".x"))] = state.pop(key)
        case 2:
            state = rng.choice((None, [], {}, 3, "x", [state], {"state_dict": None}))
        case _:
            state[key] = odd(state[key], rng)
    if rng.random() < 0.3:
        state = {rng.choice(("state_dict", "model", "net", "ema", "other")): state, "epoch": 3}
    return state


def plain(tensor: Any) -> bool:
    """Tell whether safetensors can hold ``tensor``."""
    kinds = (torch.Tensor, torch.nn.Parameter)
    if type(tensor) not in kinds or tensor.is_nested or tensor.is_quantized:
        return False
    return tensor.layout == torch.strided and tensor.device.type == "cpu"


def weights(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage a file of weights."""
    state: Any = small().state_dict() if rng.random() < 0.4 else checkpoint(rng)
    if rng.random() < 0.4 and isinstance(state, dict) and all(map(plain, state.values())):
        own = {key: tensor.contiguous() for key, tensor in state.items()}
        name, content = "bad.safetensors", save_tensors(own)
    else:
        name, stream = rng.choice(("bad.pt", "bad.pth", "bad.bin", "bad.ckpt")), io.BytesIO()
        torch.save(state, stream, _use_new_zipfile_serialization=rng.random() < 0.7)
        content = stream.getvalue()
    space.write(name, torn(content, rng) if rng.random() < 0.5 else content)
    return (*COMPILE, *WEIGHTS, name)


def array(rng: random.Random) -> np.ndarray:
    """Return an array of some type and shape."""
    shape = rng.choice(((2, *SHAPE[1:]), (2, 16, 16, 3), (0, 3, 16, 16), (3,), (), (2, 3, 16, 15)))
    kinds = ("f4", "f8", "f2", ">f4", "u1", "i8", "?", "c8", "O", "U3", "M8[s]", "V4", "f4,i4")
    made = np.zeros(shape, rng.choice(kinds))
    if made.dtype.kind == "f" and made.size and rng.random() < 0.5:
        made.flat[0] = rng.choice((np.nan, np.inf, 1e300, -1e38))
    return made


def arrays(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage an array, or several."""
    stream, suffix = io.BytesIO(), rng.choice(("npy", "npz", "npz"))
    if suffix == "npy":
        np.save(stream, array(rng), allow_pickle=True)
    elif rng.random() < 0.3:
        with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))) as z:
            z.writestr(rng.choice(("images.npy", "images", "../x.npy")), rng.randbytes(99))
    else:
        names = rng.sample(("images", "labels", "x", "y", "file", "mmap_mode"), rng.randrange(3))
        packed = np.savez_compressed if rng.random() < 0.5 else np.savez
        packed(stream, **{n: array(rng) for n in names if n != "file"})  # type: ignore[arg-type]
    content = stream.getvalue()
    name = space.write(f"bad.{suffix}", torn(content, rng) if rng.random() < 0.6 else content)
    return (*COMPILE, "--calibration", name)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def claimed(width: int, height: int) -> bytes:
    """Return a small PNG file that claims to be large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def photograph(rng: random.Random) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a photograph."""
    sizes = ((20, 20), (1, 1), (2_000_000, 1), (1, 60_000), (65_000, 3), (300, 200))
    size, stream = rng.choice(sizes), io.BytesIO()
    match rng.randrange(4):
        case 0:
            sides = rng.choice(((2**31 - 1, 2**31 - 1), (100_000, 100_000), (2**31 - 1, 1), (0, 5)))
            return "png", claimed(*sides)
        case 1:
            small_size = (min(size[0], 65_000), min(size[1], 65_000))
            Image.new("RGB", small_size).save(stream, "JPEG")
            return "jpg", stream.getvalue()
        case _:
            mode = rng.choice(("L", "RGB", "RGBA", "P", "1", "LA", "I;16"))
            Image.new(mode, size).save(stream, "PNG")
            return "png", stream.getvalue()


def photographs(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage a photograph."""
    suffix, content = photograph(rng)
    if rng.random() < 0.4:
        content = torn(content, rng)
    name = space.write(f"bad.{rng.choice((suffix, 'jpeg', 'png'))}", content)
    return ("photograph", name)
