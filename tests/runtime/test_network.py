"""A compiled network in Python: several threads, several loads, what files and inputs must be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gmpq import runtime
from gmpq.backends import reference
from gmpq.backends.tvm.codegen.form import Form
from gmpq.runtime import Network, shared_library
from tests.support.written_networks import expected_of, image_of, layer, write

CALLERS, RUNS = 8, 40
MAPS = Path("/proc/self/maps")
linux = pytest.mark.skipif(not MAPS.exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    write(layer(0), folder)
    return folder


@pytest.fixture
def network(written: Path) -> Iterator[Network]:
    with runtime.load(written) as loaded:
        yield loaded


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("loads", [1, 4])
def test_callers_at_once_get_their_own_results(written: Path, loads: int, threads: int) -> None:
    graph = layer(0)
    images = [image_of(graph, seed) for seed in range(CALLERS)]
    expected = [expected_of(graph, image) for image in images]
    networks = [runtime.load(written) for _ in range(loads)]
    for network in networks:
        network.set_threads(threads)

    def wrong(caller: int) -> int:
        called = networks[caller % loads]
        places = [(caller + turn) % CALLERS for turn in range(RUNS)]
        return sum(not np.array_equal(called.run(images[i]), expected[i]) for i in places)

    with ThreadPoolExecutor(CALLERS) as callers:
        assert sum(callers.map(wrong, range(CALLERS))) == 0


def test_a_trace_and_runs_do_not_disturb_each_other(network: Network) -> None:
    graph = layer(0)
    first, second = image_of(graph, 0), image_of(graph, 1)
    found = {}
    for name, value in network.trace(first):
        found[name] = value
        np.testing.assert_array_equal(network.run(second), expected_of(graph, second))
    expected = reference.run(graph, {"image": first})
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_network_compiled_again_is_the_new_one(tmp_path: Path) -> None:
    networks = []
    for seed in range(3):
        graph = layer(seed)
        write(graph, tmp_path)
        networks.append(runtime.load(tmp_path))
        image = image_of(graph, seed)
        np.testing.assert_array_equal(networks[-1].run(image), expected_of(graph, image))
    graph = layer(0)  # the first one still is what it was
    image = image_of(graph, 9)
    np.testing.assert_array_equal(networks[0].run(image), expected_of(graph, image))


def no_memory_files(_name: str) -> int:
    raise OSError("not implemented")


@pytest.mark.parametrize("in_memory", [True, False], ids=["memfd", "temporary-file"])
@linux
def test_closing_unloads_the_library_and_ends_its_threads(
    in_memory: bool, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.setattr(shared_library.os, "memfd_create", no_memory_files)
    before, threads = loaded_libraries(), len(list(Path("/proc/self/task").iterdir()))
    with runtime.load(written) as network:
        network.set_threads(3)
        graph, image = layer(0), image_of(layer(0), 0)
        np.testing.assert_array_equal(network.run(image), expected_of(graph, image))
        assert len(loaded_libraries() - before) == 1
        assert len(list(Path("/proc/self/task").iterdir())) == threads + 2
    assert loaded_libraries() == before
    assert len(list(Path("/proc/self/task").iterdir())) == threads
    with pytest.raises(ValueError, match="closed: load it again"):
        network.run(image)
    network.close()  # again does nothing


def loaded_libraries() -> set[str]:
    """Return the inodes of libraries in this process that have no file any more."""
    lines = (line.split() for line in MAPS.read_text().splitlines())
    return {words[4] for words in lines if words[-1] == "(deleted)"}


@linux
def test_many_loads_leave_no_descriptor(written: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(5):
        runtime.load(written)  # nothing refers to it any more
    assert descriptors() == before


def test_a_thread_pool_of_callers_survives_the_end_of_the_process(written: Path) -> None:
    """Threads of the library and callers of Python may still be there when a process ends."""
    script = f"""
import threading, numpy as np
from gmpq import runtime
network = runtime.load({str(written)!r})
network.set_threads(2)
image = np.zeros(network.inputs[0].shape, np.float32)
def run():
    while True:
        network.run(image)
for _ in range(3):
    threading.Thread(target=run, daemon=True).start()
network.run(image)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_process_forks_while_a_network_is_loaded_and_after(written: Path) -> None:
    script = f"""
import os, numpy as np
from gmpq import runtime

def child(work):
    pid = os.fork()
    if pid == 0:
        os._exit(not work())
    assert os.waitpid(pid, 0)[1] == 0

network = runtime.load({str(written)!r})
image = np.ones(network.inputs[0].shape, np.float32)
network.set_threads(2)
expected = network.run(image)
child(lambda: np.array_equal(network.run(image), expected))
child(lambda: network.set_threads(2) or np.array_equal(network.run(image), expected))
network.close()
child(lambda: True)  # what the library asked for at forks went with it
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_a_network_tells(network: Network) -> None:
    assert [(end.name, end.shape, end.dtype) for end in (*network.inputs, *network.outputs)] == [
        ("image", (1, 64, 28, 28), "float32"),
        ("real", (1, 64, 28, 28), "float32"),
    ]
    assert network.preprocessing == {"mean": [0.5], "resize": None}
    assert [step.node for step in network.steps] == ["quantize", "conv", "dequantize"]
    assert network.target == "native"


SHAPE = (1, 64, 28, 28)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        pytest.param([[1.0]], TypeError, "list: pass np.asarray(x, np.float32)", id="list"),
        pytest.param(torch.zeros(SHAPE), TypeError, "Tensor: pass x.numpy(force=True)", id="torch"),
        pytest.param(None, TypeError, "NoneType: pass np.asarray", id="none"),
        pytest.param(np.zeros(SHAPE), ValueError, "float64: pass x.astype(np.float32)", id="f64"),
        pytest.param(np.zeros(SHAPE, np.uint8), ValueError, "got uint8: pass", id="uint8"),
        pytest.param(np.zeros(SHAPE, ">f4"), ValueError, "got >f4: pass", id="big-endian"),
        pytest.param(np.zeros(SHAPE, object), ValueError, "got object: pass", id="object"),
        pytest.param(
            np.zeros(SHAPE[1:], np.float32), ValueError, "[64, 28, 28]: pass x[None]", id="no-batch"
        ),
        pytest.param(np.zeros((1, 28, 28, 64), np.float32), ValueError, "28, 28, 64]", id="nhwc"),
    ],
)
def test_wrong_inputs_are_told(
    given: Any, error: type[Exception], told: str, network: Network
) -> None:
    with pytest.raises(error) as caught:
        network.run(given)
    message = str(caught.value)
    assert message.startswith("input 'image' must be a numpy array, float32 [1, 64, 28, 28], got ")
    assert told in message


def test_the_number_of_inputs_is_told(network: Network) -> None:
    with pytest.raises(ValueError, match="expected 1 inputs, got 0"):
        network.run()
    for threads in (0, 257):
        with pytest.raises(ValueError, match="choose 1 to 256"):
            network.set_threads(threads)


def test_inputs_lie_anywhere(network: Network) -> None:
    graph, image = layer(0), image_of(layer(0), 3)
    expected = expected_of(graph, image)
    odd = np.empty(image.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(SHAPE)
    odd[:] = image
    mirrored = image[..., ::-1].copy()[..., ::-1]
    channels_last = image.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    for given in (odd, mirrored, channels_last):
        np.testing.assert_array_equal(network.run(given), expected)


def test_a_network_with_names_of_its_own(tmp_path: Path) -> None:
    graph = layer(5)
    write(graph, tmp_path, Form(prefix="lite0"))
    image = image_of(graph, 5)
    np.testing.assert_array_equal(runtime.load(tmp_path).run(image), expected_of(graph, image))
