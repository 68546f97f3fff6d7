"""Words that were retired do not come back.

Documents and code use the field's nouns, which the glossary of ``docs/architecture.md`` defines.
"""

from __future__ import annotations

import re

import pytest

from tests.support.documents import DOCUMENTS, ROOT

PACKAGE = [
    path
    for folder in ("gmpq", "backends", "calib", "export")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
NAMES = {  # old name: the present one
    "Finish": "Epilogue",
    "finish_of": "epilogue_of",
    "Ends": "EpilogueArgs",
    "Fleet": "DevicePool",
    "Visit": "Session",
    "Patience": "Timeouts",
    "silence_s": "idle_timeout_s",
    "likeness": "device_model",
    "Inquiry": "DeviceQuery",
    "Offer": "Lease",
    "Holder": "Device",
    "Job": "CompileInputs, RunTask",
    "Trial": "MeasureTask",
    "near_bytes": "l1d_bytes",
    "cache_bytes": "l2_bytes",
    "shared_bytes": "llc_share_bytes",
    "Pace": "PipelineModel",
    "ONE_BY_ONE": "IN_ORDER",
    "HALVES_MULTIPLIED": "CORTEX_A72_CLASS",
    "Narrow": "the instruction",
    "Slim": "the instruction",
    "Survey": "NetworkInfo",
    "surveyed": "inspect_network",
    "composite": "MixedConv2d",
    "Taught": "TeacherOutputs",
    "Lesson": "TeacherTraining",
    "Bill": "Constraint",
    "Picks": "Assignment",
    "diary": "epoch_log",
    "Course": "TrainingRun",
    "rewire": "replace_uses",
    "check_fits": "check_trained",
    "gauge": "load_probe",
    "hear": "on_event",
    "pieces": "tasks",
    "Portable": "Int32Dot",
    "encode_class": "encode_scale_group",
    "Seen": "StatisticsByValue",
    "finish_cycles": "epilogue_cycles",
    "fitting": "within_cache, usable, ...",
}
PHRASES = (  # in documents and code alike
    r"\bguests?\b",
    r"\bpeers?\b(?!\.py)",
    r"\bhear(s|d)?\b",
    r"\bG products\b",
    r"\bproducts (a cycle|per second|a second)\b",
    r"\bfrom afar\b|\bfar away\b",
    r"pip install '?\"?gmpq",
    r"gmpq\[",
)
PROSE = (  # in documents and code alike, in lower case
    r"\b(told|tells?)\b",
    r"\bof (its|their) own\b(?! \|)",
    r"\bso many\b",
    r"\bbeside\b",
    r"\bin words\b",
)


def found(pattern: str, text: str) -> list[str]:
    """Return the lines of ``text`` that have the pattern."""
    return [line.strip() for line in text.splitlines() if re.search(pattern, line)]


@pytest.mark.parametrize("name", NAMES)
def test_old_names_are_gone_from_the_package(name: str) -> None:
    lines = [line for path in PACKAGE for line in found(rf"\b{name}\b", path.read_text("utf-8"))]
    assert lines == [], f"it is called {NAMES[name]}"


@pytest.mark.parametrize("phrase", PHRASES)
def test_old_phrases_are_gone(phrase: str) -> None:
    paths = [*PACKAGE, *DOCUMENTS]
    assert [line for path in paths for line in found(phrase, path.read_text("utf-8"))] == []


@pytest.mark.parametrize("phrase", PROSE)
def test_prose_is_plain(phrase: str) -> None:
    paths = [*PACKAGE, *DOCUMENTS]
    assert [line for path in paths for line in found(phrase, path.read_text("utf-8"))] == []
