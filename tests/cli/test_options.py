"""The options of a compile have the names and the defaults of what they choose."""

from __future__ import annotations

import click
import pytest

from gmpq.calib.observers import OBSERVERS
from gmpq.cli import commands, types
from gmpq.compile.options import CompileOptions
from gmpq.errors import CalibrationError
from gmpq.passes.ptq import QuantizeOptions
from gmpq.passes.weights import WeightObserver
from gmpq.qat.options import OPTIMIZERS
from gmpq.qat.scales import METHODS
from gmpq.search.differentiable.settings import QuantizerKind


def test_all_observers_are_choices() -> None:
    assert list(types.OBSERVERS) == [observer.name for observer in OBSERVERS]
    assert set(types.WEIGHT_OBSERVER.choices) == {observer.value for observer in WeightObserver}


def help_of(option: str, *path: str) -> str:
    """Return the text that help shows for an option of the command below ``gmpq``."""
    command: click.Command = commands.group
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    (text,) = (
        each.help
        for each in command.params
        if isinstance(each, click.Option) and option in each.opts
    )
    return text or ""


def test_help_names_what_the_code_has() -> None:
    assert " or ".join(name for name, _ in METHODS) in help_of("--method", "finetune")
    assert " or ".join(OPTIMIZERS) in help_of("--optimizer", "finetune")
    quantizers = help_of("--quantizers", "search", "gmpq")
    assert [kind.value for kind in QuantizerKind if kind.value not in quantizers] == []


def test_no_option_means_the_defaults_of_the_dataclasses(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[CompileOptions] = []
    monkeypatch.setattr(commands, "_compile", lambda _, options, *rest: found.append(options))
    monkeypatch.setattr(commands, "tuning_cache", lambda: None)
    command = commands.group.commands["compile"]
    command.main(["policy.json"], standalone_mode=False)
    command.main(["policy.json", "--no-bench"], standalone_mode=False)
    assert found == [CompileOptions(), CompileOptions(bench=False)]


def test_the_defaults_of_a_compile_are_those_of_quantization() -> None:
    options = CompileOptions()
    named = QuantizeOptions.named(
        options.observer, options.weight_observer, options.bias_correct, None
    )
    assert named == QuantizeOptions()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(CalibrationError, match=r"no observer 'mae' \(did you mean mse"):
        QuantizeOptions.named("mae", "mse", True, None)
    with pytest.raises(
        CalibrationError,
        match=r"weight observer 'max' is unknown \(did you mean minmax\?\): use minmax, mse",
    ):
        QuantizeOptions.named("mse", "max", True, None)
