"""Commands and code in the documents run, or a comment before them says why no test runs them.

Blocks of a document run in their order, in a folder that holds what they name: ``policy.json``,
``network.json``, ``photographs/``, ``val/`` and the examples, whose networks are smaller.
Options of commands that are not run are compared with those that the command line has.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import jsonschema
import numpy as np
import pytest
from PIL import Image

from gmpq.cli.commands import compile_command, group
from gmpq.cli.entry import run
from tests.support.documents import DOCUMENTS, ROOT, Block, blocks, commands

ALL = [block for document in DOCUMENTS for block in blocks(document)]
SHELL = [block for block in ALL if block.language == "sh"]
RUN = [document for document in DOCUMENTS if any(b.reason is None for b in blocks(document))]
SIDE = 32  # of the images of examples
SMALL = "cifar_resnet8"  # has some of the layers of resnet18
LAYERS = (
    *("conv1", "layer1.0.conv1", "layer1.0.conv2", "fc"),
    *(f"layer{n}.0.{name}" for n in (2, 3) for name in ("conv1", "conv2", "downsample.0")),
)
SCHEMA = json.loads((ROOT / "gmpq" / "policy" / "policy-v1.json").read_text("utf-8"))
PIPES = ("&", "|", ">", "&&", ";")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("documents")
    network = {"arch": SMALL, "weights": "random:0"}
    layers = {"version": 1, "model": network, "layers": {}}
    _write(made / "policy.json", layers | {"default": {"w": 4, "a": 4}})
    _write(made / "network.json", layers)
    for path in (ROOT / "examples").glob("*.json"):
        _write(made / "examples" / path.name, _smaller(json.loads(path.read_text("utf-8"))))
    rng = np.random.default_rng(0)
    for name in ("photographs/a", "photographs/b", "val/cat/a", "val/dog/b"):
        path = made / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return made


def _smaller(policy: dict[str, Any]) -> dict[str, Any]:
    """Return the policy for images of ``SIDE``, and for the network of fewer layers."""
    model = policy["model"] | {"input": {"shape": [1, 3, SIDE, SIDE], "resize": SIDE}}
    if model["arch"] != "resnet18":
        return policy | {"model": model}
    layers = {name: policy["layers"][name] for name in LAYERS if name in policy["layers"]}
    return policy | {"model": model | {"arch": SMALL}, "layers": layers}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN, ids=lambda path: path.stem)
def test_what_is_not_marked_runs(
    document: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    names: dict[str, object] = {}
    for block in blocks(document):
        if block.reason is None:
            _run(block, names)


def _run(block: Block, names: dict[str, object]) -> None:
    match block.language:
        case "sh":
            for words in commands(block):
                assert _execute(words) == 0, f"{block.place}: {' '.join(words)} fails"
        case "python":
            exec(compile(block.text, block.place, "exec"), names)
        case "json":
            content = json.loads(block.text)
            if "model" in content:
                jsonschema.validate(content, SCHEMA)
        case "text":
            pass
        case other:
            pytest.fail(f"{block.place}: no test runs {other}: say why in <!-- not run: ... -->")


def _execute(words: tuple[str, ...]) -> int:
    match words:
        case ("gmpq", *rest):
            return run(group, rest, "gmpq")
        case ("gmpq-compile", *rest):  # times are nothing that a test can hold
            return run(compile_command, [*rest, "--no-bench"], "gmpq-compile")
        case ("python", *rest) if rest[0].startswith("-"):
            return subprocess.run([sys.executable, *rest], env=os.environ, check=False).returncode
        case _:
            pytest.fail(f"no test runs {words[0]}: say why in <!-- not run: ... --> before it")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_commands_exist_with_their_options(block: Block) -> None:
    for words in commands(block):
        for part in _simple(words):
            _check(block, part)


def _simple(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the commands that a pipe or a list joins, without redirections."""
    part: list[str] = []
    for word in words:
        if word in PIPES:
            yield tuple(part)
            part = []
        else:
            part.append(word)
    if part:
        yield tuple(part)


def _check(block: Block, words: tuple[str, ...]) -> None:
    place = f"{block.place}: {' '.join(words)}"
    match _without_wrapper(words):
        case ("gmpq", *rest):
            _check_options(place, group, rest)
        case ("gmpq-compile", *rest):
            _check_options(place, compile_command, rest)
        case ("python", script, *rest) if script.startswith(("benchmarks/", "examples/")):
            _check_options(place, _script(script), rest)
        case ("make", target, *_):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M), place
        case ("pip", "install", *rest):
            _check_extras(place, rest)
        case _:
            assert block.reason is not None or words[:2] == ("python", "-X"), place


def _without_wrapper(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that another one starts: ``torchrun``, ``time``, ``env``."""
    for index, word in enumerate(words):
        if word in ("gmpq", "gmpq-compile"):
            return words[index:]
        if word == "gmpq.cli":
            return ("gmpq", *words[index + 1 :])
    return words


def _script(path: str) -> click.Command:
    name = path.removeprefix("benchmarks/").removesuffix(".py").replace("/", ".")
    main = importlib.import_module(name).main
    assert isinstance(main, click.Command)
    return main


def _check_options(place: str, command: click.Command, words: list[str]) -> None:
    """Compare the options of a command, and the values of choices, with what it takes."""
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{place}: {words[0]} is unknown"
        command, words = found, words[1:]
    options = {
        name: each
        for each in command.get_params(context)
        if isinstance(each, click.Option)
        for name in (*each.opts, *each.secondary_opts)
    }
    for word, value in pairwise([*words, ""]):
        if word.startswith("-") and word != "-":
            assert word in options, f"{place}: {word} is unknown"
            if isinstance(options[word].type, click.Choice):
                options[word].type.convert(value, options[word], context)


def _check_extras(place: str, words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for found in re.findall(r"\.\[(.*)\]", " ".join(words)):
        assert set(found.split(",")) <= set(extras["optional-dependencies"]), place
    assert "gmpq" not in " ".join(words), f"{place}: gmpq is in no registry"


def test_every_reason_belongs_to_a_block() -> None:
    for document in DOCUMENTS:
        lines = document.read_text("utf-8").splitlines()
        written = sum(line.startswith("<!-- not run:") for line in lines)
        assert written == sum(block.reason is not None for block in blocks(document)), document
