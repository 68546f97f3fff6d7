"""The study: its data, a journal that goes on, its tables, and one cell from end to end."""

from __future__ import annotations

import gzip
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accuracy import journal, report
from accuracy.journal import Journal, Task, name_of
from accuracy.plan import GMPQ, LEVELS, LIMPQ, METHODS, UNIFORM, Cell, StudySettings, cells
from accuracy.policies import Work
from accuracy.sources import (
    CIFAR,
    CIFAR_FILE,
    FASHION,
    FASHION_IMAGES,
    FASHION_LABELS,
    read,
    split,
)
from gmpq.errors import CalibrationError
from gmpq.policy import LayerBits

SETTINGS = replace(
    StudySettings({"train": 48, "val": 16, "test": 16}),
    batch=16,
    float_epochs=1,
    gmpq_epochs=1,
    sensitivity_images=8,
    reestimate=1,
)


def write_cifar(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(folder / CIFAR_FILE, "w:xz") as archive:
        for i in range(count):
            stream = io.BytesIO()
            pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(stream, "jpeg")
            member = tarfile.TarInfo(f"cifar10/{('cat', 'dog', 'bird')[i % 3]}/{i}.jpg")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)


def write_fashion(folder: Path, count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28)).astype(np.uint8)
    (folder / FASHION_IMAGES).write_bytes(gzip.compress(bytes(16) + pixels.tobytes()))
    labels = (np.arange(count) % 3).astype(np.uint8)
    (folder / FASHION_LABELS).write_bytes(gzip.compress(bytes(8) + labels.tobytes()))


def test_jpeg_folders_become_labelled_images(tmp_path: Path) -> None:
    write_cifar(tmp_path, 6)
    images, labels = read(CIFAR, tmp_path)
    assert (images.shape, images.dtype) == ((6, 32, 32, 3), np.uint8)
    assert labels.tolist() == [1, 2, 0, 1, 2, 0]  # bird, cat, dog


def test_grey_images_are_padded_to_one_size(tmp_path: Path) -> None:
    write_fashion(tmp_path, 4)
    images, labels = read(FASHION, tmp_path)
    assert images.shape == (4, 32, 32, 3)
    assert not images[:, :2].any()
    assert (images[..., 0] == images[..., 2]).all()
    assert labels.tolist() == [0, 1, 2, 0]


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=rf"cannot read {CIFAR_FILE}: .*No such file"):
        read(CIFAR, tmp_path)
    (tmp_path / CIFAR_FILE).write_bytes(b"torn")
    with pytest.raises(CalibrationError, match=rf"cannot read {CIFAR_FILE}"):
        read(CIFAR, tmp_path)
    write_fashion(tmp_path, 4)
    torn = (tmp_path / FASHION_IMAGES).read_bytes()[:-20]
    (tmp_path / FASHION_IMAGES).write_bytes(torn)
    with pytest.raises(CalibrationError, match=f"cannot read {FASHION_IMAGES}"):
        read(FASHION, tmp_path)


def test_parts_are_disjoint_and_stay(tmp_path: Path) -> None:
    write_fashion(tmp_path, 12)
    paths = split(FASHION, tmp_path, tmp_path, {"train": 6, "val": 2, "test": 4})
    parts = [np.load(path)["images"] for path in paths.values()]
    assert [len(part) for part in parts] == [6, 2, 4]
    assert len({image.tobytes() for part in parts for image in part}) == 12
    (tmp_path / FASHION_IMAGES).unlink()
    assert split(FASHION, tmp_path, tmp_path, {"train": 6, "val": 2, "test": 4}) == paths


def test_a_stopped_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def do(task: Task) -> dict[str, object]:
        done.append(task.name)
        return {"task": task.name, "accuracy": 0.5, "seconds": 1.0}

    monkeypatch.setattr(journal, "do", do)
    tasks = [Task(Work(cell, SETTINGS, {}, tmp_path)) for cell in cells(("cifar_resnet8",), 2)]
    with ThreadPoolExecutor(1) as pool:
        journal.run(tasks[:2], Journal.open(tmp_path / "r.jsonl"), pool)
        again = Journal.open(tmp_path / "r.jsonl")
        journal.run(tasks + tasks, again, pool)
    assert sorted(done) == sorted(task.name for task in tasks)
    assert again.found == Journal.open(tmp_path / "r.jsonl").found


def made_up(path: Path, every: list[Cell]) -> Journal:
    """Return results by which uniform bits reach 50% and 60%, and method i is i points better."""
    found = Journal(path, {})
    for cell in every:
        number = 100 * (cell.dataset is CIFAR) + 10 * cell.seed
        policies = {
            method: {n: {"conv": LayerBits(n, i + 1)} for n in LEVELS}
            for i, method in enumerate(METHODS)
        }
        seconds = dict.fromkeys(METHODS, 10.0 + number)
        found.add(
            {"task": name_of(cell), "accuracy": 0.7, "seconds": 1.0, "float_seconds": 2.0}
            | {"policies": {m: journal.plain(p) for m, p in policies.items()}}
            | {"search_seconds": seconds}
        )
        for i, method in enumerate(METHODS):
            for n in LEVELS:
                accuracy = 0.2 + 0.1 * n + 0.01 * i + 0.01 * cell.seed
                task = name_of(cell, policies[method][n])
                found.add({"task": task, "accuracy": accuracy, "seconds": 3.0})
    return found


def test_tables_of_a_study(tmp_path: Path) -> None:
    every = list(cells(("cifar_resnet8",), 3))
    found = made_up(tmp_path / "r.jsonl", every)
    header, lines = report.accuracies(found, every, 3)
    assert header == ("bits", "cifar10, cifar_resnet8", "fashion, cifar_resnet8")
    assert lines[:2] == [("float", "70.0 ± 0.0", "70.0 ± 0.0"), (UNIFORM, *["51.0 ± 1.0"] * 2)]
    _, gains = report.differences(found, every)
    assert gains[1] == (GMPQ, "+2.00 ± 0.00", "6 of 6", "+2.00 ± 0.00", "6 of 6")
    _, moved = report.transfer(found, every)
    assert [line[0] for line in moved] == [GMPQ, LIMPQ]
    assert moved[0][1:3] == ("+0.00 ± 0.00", "0 of 6")  # both data sets have the same bits here
    _, seconds = report.costs(found, every)
    assert seconds[0] == ("float network", "2", "2")
    assert seconds[1] == (GMPQ, "120", "20")
    pytest.importorskip("matplotlib")
    report.plot(found, every, tmp_path / "study.svg")
    assert (tmp_path / "study.svg").read_text("utf-8").count('<g id="axes_') == 2


@pytest.mark.slow
def test_one_cell_from_end_to_end(tmp_path: Path) -> None:
    write_fashion(tmp_path, 80)
    cell = Cell(FASHION, "cifar_resnet8", 0)
    parts = split(FASHION, tmp_path, tmp_path, dict(SETTINGS.sizes))
    work = Work(cell, SETTINGS, parts, tmp_path)
    row = journal.do(Task(work))
    limits = row["bops"][UNIFORM]
    assert set(row["policies"]) == set(METHODS)
    for method in METHODS:
        for n in LEVELS:
            assert row["bops"][method][n] <= 1.01 * limits[n], method
    found = Journal(tmp_path / "r.jsonl", {row["task"]: row})
    tuned = journal.do(Task(work, found.policies(cell)[LIMPQ][4]))
    assert 0 <= tuned["accuracy"] <= 1
