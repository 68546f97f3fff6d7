"""The documents of the repository: their code blocks, and the commands in them.

A block is fenced, or indented by four spaces. ``<!-- not run: reason -->`` before it says why no
test runs it. Text that is no code stands in a fence called ``text``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
FENCE = re.compile(r"^```(\w*)$")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
PYTHON = re.compile(r"^(import|from) \w")
ASSIGNMENT = re.compile(r"^\w+=")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: its language, where it begins, and why it is not run, if it is not."""

    document: Path
    line: int
    language: str  # sh, python, json, c or text
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        """The document and the line, as pytest and editors show them."""
        return f"{self.document.name}:{self.line}"


def blocks(document: Path) -> tuple[Block, ...]:
    """Return the code blocks of ``document`` in their order."""
    return tuple(_blocks(document, document.read_text("utf-8").splitlines()))


def commands(block: Block) -> tuple[tuple[str, ...], ...]:
    """Return the shell commands of a block, each split into its arguments, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    split = (tuple(shlex.split(line, comments=True)) for line in lines)
    return tuple(words for words in split if words)


def _blocks(document: Path, lines: list[str]) -> Iterator[Block]:
    reason, at, in_list = None, 0, False
    while at < len(lines):
        line = lines[at]
        if fence := FENCE.match(line):
            end = lines.index("```", at + 1)
            text = "\n".join(lines[at + 1 : end])
            yield Block(document, at + 2, fence[1] or language(text), text, reason)
            reason, at = None, end + 1
        elif line.startswith("    ") and not in_list and not lines[at - 1].strip():
            end = _indented_end(lines, at)
            text = "\n".join(each[4:] for each in lines[at:end])
            yield Block(document, at + 1, language(text), text, reason)
            reason, at = None, end
        else:
            if line.strip():
                found = NOT_RUN.match(line)
                reason = found[1] if found else None
                in_list = line.startswith(("- ", "* ")) or (in_list and line.startswith(" "))
            at += 1


def _indented_end(lines: list[str], at: int) -> int:
    end = at
    for index in range(at, len(lines)):
        if lines[index].startswith("    "):
            end = index + 1
        elif lines[index].strip():
            break
    return end


def language(text: str) -> str:
    """Return the language of a block that does not name it."""
    first = text.splitlines()[0]
    if text.startswith("{"):
        return "json"
    if PYTHON.match(first):
        return "python"
    program = first.split()[0]
    return "sh" if program in PROGRAMS or "/" in program else "text"


PROGRAMS = (  # whose lines are commands
    *("gmpq", "gmpq-compile", "make", "pip", "python", "torchrun", "cc", "git", "echo", "scp"),
    *("qemu-aarch64", "qemu-arm", "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc", "apt-get"),
)
