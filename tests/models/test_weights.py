"""Weights files: what loads, and one line for each thing that does not."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gmpq.errors import WeightsError
from gmpq.models import find
from gmpq.models.weights import load_weights

State = dict[str, torch.Tensor]


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def refusal(path: Path, module: nn.Module | None = None) -> str:
    module = module or net()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(module, path)
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def saved(path: Path, change: Callable[[State], object] = lambda _: None) -> Path:
    state = {key: tensor.clone() for key, tensor in net(1).state_dict().items()}
    change(state)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    "name", ["w.safetensors", "w.pt", "w.pth", "w.bin", "w.ckpt", "w.pth.tar", "w", "w.npz"]
)
def test_files_that_load(tmp_path: Path, name: str) -> None:
    module = net()
    load_weights(module, saved(tmp_path / name))
    for key, tensor in net(1).state_dict().items():
        assert torch.equal(module.state_dict()[key], tensor)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="wrapped"),
        pytest.param(lambda state: {"model": {"state_dict": state}}, id="wrapped-twice"),
        *(
            pytest.param(lambda state, key=key: {key: state, "epoch": 3}, id=key)
            for key in ("model", "net", "model_state_dict", "ema", "ema_state_dict", "model_ema")
        ),
        *(
            pytest.param(lambda state, prefix=prefix: prefixed(prefix, state), id=prefix)
            for prefix in (
                "module.",
                "_orig_mod.",
                "model.",
                "module._orig_mod.",
                "_orig_mod.module.",
                "model._orig_mod.module.",
            )
        ),
        pytest.param(
            lambda state: {key.replace(".", "._orig_mod."): t for key, t in state.items()},
            id="compiled-layers",
        ),
        pytest.param(
            lambda state: {"ema": {**prefixed("module.", state), "n_averaged": torch.ones(())}},
            id="averaged",
        ),
        pytest.param(
            lambda state: {k: t for k, t in state.items() if "num_batches" not in k},
            id="no-counter",
        ),
    ],
)
def test_forms_of_checkpoints(tmp_path: Path, wrap: Callable[[State], object]) -> None:
    path = tmp_path / "w.pt"
    torch.save(wrap(dict(net(1).state_dict())), path)
    module = net()
    load_weights(module, path)
    assert torch.equal(module.state_dict()["0.weight"], net(1).state_dict()["0.weight"])


def test_old_checkpoints_load(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(net(1).state_dict(), path, _use_new_zipfile_serialization=False)
    load_weights(net(), path)


def test_a_safetensors_file_by_another_name(tmp_path: Path) -> None:
    saved(tmp_path / "w.safetensors").rename(tmp_path / "pytorch_model.bin")
    load_weights(net(), tmp_path / "pytorch_model.bin")


def test_keys_that_begin_as_a_prefix_does_stay(tmp_path: Path) -> None:
    module = nn.Module()
    module.model = net()
    torch.save(prefixed("module.model.", dict(net(1).state_dict())), tmp_path / "w.pt")
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.state_dict()["model.0.weight"], net(1).state_dict()["0.weight"])


def test_weights_go_before_their_average(tmp_path: Path) -> None:
    state, other = dict(net(1).state_dict()), dict(net(2).state_dict())
    torch.save({"ema": other, "state_dict": state, "net": other}, tmp_path / "w.pt")
    module = net()
    held = load_weights(module, tmp_path / "w.pt")
    assert (held.keys, held.others) == (("state_dict",), ("net", "ema"))
    assert torch.equal(module.state_dict()["0.weight"], state["0.weight"])


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "w.pt").endswith("no such file: check its path")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    os.mkfifo(tmp_path / "fifo.pt")
    assert "is a directory" in refusal(tmp_path / "folder.pt")
    assert "is a FIFO" in refusal(tmp_path / "fifo.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.95])
def test_truncated_file(tmp_path: Path, name: str, share: float) -> None:
    path = saved(tmp_path / name)
    os.truncate(path, int(path.stat().st_size * share))
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_truncated_old_checkpoint(tmp_path: Path, share: float) -> None:
    path = tmp_path / "old.pth"
    torch.save(net(1).state_dict(), path, _use_new_zipfile_serialization=False)
    os.truncate(path, int(path.stat().st_size * share))
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(
    "content", [b"hello, these are no weights\n" * 9, b"\0" * 99, b"\x80\x02}"]
)
def test_another_kind_of_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "truncated, or not a" in refusal(tmp_path / name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch is about to drop it
def test_torchscript(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(net().eval()), tmp_path / "w.pt")
    assert "is TorchScript, code with weights" in refusal(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore")  # torch's own, of kinds that it is about to drop
@pytest.mark.parametrize(
    ("key", "make", "message"),
    [
        pytest.param(
            "0.weight", lambda x: x.to(torch.int8), "0.weight holds whole numbers (t", id="int8"
        ),
        pytest.param("0.bias", lambda x: x > 0, "holds true or false numbers", id="bool"),
        pytest.param("3.weight", lambda x: x + 0j, "holds complex numbers", id="complex"),
        pytest.param(
            "1.num_batches_tracked", lambda x: x + 0.5, "the network needs whole ones", id="counter"
        ),
        pytest.param(
            "0.weight", lambda x: x.to(torch.float8_e4m3fn), "of type float8_e4m3fn", id="fp8"
        ),
        pytest.param("3.weight", lambda x: x.to_sparse(), "sparse (sparse_coo)", id="sparse"),
        pytest.param("3.weight", lambda x: x.to("meta"), "is a meta tensor", id="meta"),
        pytest.param(
            "3.weight",
            lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
            "3.weight is quantized (qint8): save float32 weights",
            id="quantized",
        ),
        pytest.param(
            "0.bias", lambda x: x.double() + 1e300, "0.bias holds 4 NaN or infinite", id="overflow"
        ),
    ],
)
def test_tensors_that_are_no_weights(
    tmp_path: Path, key: str, make: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    path = saved(tmp_path / "w.pt", lambda state: state.update({key: make(state[key])}))
    assert message in refusal(path)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
def test_damaged_checkpoints(tmp_path: Path, *, old: bool) -> None:
    torch.save(net(1).state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    whole = (tmp_path / "w.pt").read_bytes()
    draw = random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        (tmp_path / "w.pt").write_bytes(damaged)
        with suppress(WeightsError):  # what is damaged may be a digit of a weight
            load_weights(net(), tmp_path / "w.pt")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    "payload",
    [pytest.param(lambda: {"a": Payload()}, id="call"), pytest.param(net, id="whole-module")],
)
def test_a_pickle_with_code_is_not_run(
    tmp_path: Path, payload: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(payload(), tmp_path / "w.pt")
    assert "holds code, which gmpq does not run" in refusal(tmp_path / "w.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param([1, 2], "holds list, not a state dict", id="list"),
        pytest.param({}, "holds dict, not a state dict", id="empty"),
        pytest.param({"epoch": 3}, "epoch is no tensor: save only the state_dict", id="number"),
        pytest.param({3: torch.ones(1)}, "3 is no tensor", id="key"),
        pytest.param(torch.ones(3), "holds Tensor, not a state dict", id="tensor"),
    ],
)
def test_a_checkpoint_of_something_else(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert message in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_missing_keys(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, lambda state: (state.pop("0.bias"), state.pop("3.weight")))
    assert "lacks 2 of 9 keys (0.bias, 3.weight): is it" in refusal(path)


def test_unexpected_keys(tmp_path: Path) -> None:
    more = {f"head.{index}": torch.ones(1) for index in range(5)}
    path = saved(tmp_path / "w.safetensors", lambda state: state.update(more))
    assert "holds 5 unknown keys (head.0, head.1, head.2, ...)" in refusal(path)


def test_weights_of_another_network(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "w.pt"), find("cifar_resnet8").build())
    assert "lacks" in message
    assert "and holds 9 unknown keys (0.weight, 0.bias, 1.weight, ...)" in message


def test_wrong_shape(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", lambda state: state.update({"3.weight": torch.ones(5, 4)}))
    assert "3.weight has shape [5, 4], the network needs [2, 4]" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_values_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    path = saved(tmp_path / name, lambda state: state["1.bias"][1:3].fill_(value))
    assert "1.bias holds 2 NaN or infinite values of 4" in refusal(path)
