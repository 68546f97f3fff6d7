"""ELF files: symbols made local, and the glibc that is needed, for any machine, without its tools.

A static library keeps every global symbol of its objects. TVM's code generator defines one of a
fixed name, the weak ``__TVMBackendParallelLaunch``, which two networks in one program would share,
and with it each other's threads; no ``--name`` changes it. So all symbols but the entry points are
made local, as ``objcopy --keep-global-symbol`` does, which C compilers that link for other machines
do not bring (System V ABI, chapter 4, "Symbol Table" and "Relocation"; little-endian machines
only). The oldest glibc that a shared library runs with is read from it (Linux Standard Base,
"Symbol Version Requirements").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Table: TypeAlias = NDArray[Any]

SYMBOLS, RELOCATIONS, GROUP, MORE_INDICES = 2, (4, 9), 17, 18  # types of sections
NEEDED_VERSIONS = 0x6FFFFFFE  # another one
GLIBC = "GLIBC_"
LOCAL, UNDEFINED = 0, 0  # a symbol's binding; its section


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """The fields of one class of objects."""

    header: np.dtype[Any]
    section: np.dtype[Any]
    symbol: np.dtype[Any]
    relocation_info: int  # bytes from the start of a relocation
    info_type: str
    shift: int  # of the symbol's number in it


def _fields(spec: str) -> np.dtype[Any]:
    """Return the type of a row of ``name:type`` words."""
    return np.dtype([(name, f"<{kind}") for name, kind in (w.split(":") for w in spec.split())])


_SYMBOL32 = _fields("name:u4 value:u4 size:u4 info:u1 other:u1 section:u2")
_SYMBOL64 = _fields("name:u4 info:u1 other:u1 section:u2 value:u8 size:u8")


# One of each library, whose versions are a list; places count from the row itself.
_NEEDED = _fields("version:u2 count:u2 file:u4 first:u4 next:u4")
_VERSION = _fields("hash:u4 flags:u2 other:u2 name:u4 next:u4")


def _form(word: str, symbol: np.dtype[Any], shift: int) -> _Form:
    size = int(word[1])
    return _Form(
        _fields(
            f"ident:V16 type:u2 machine:u2 version:u4 entry:{word} phoff:{word} shoff:{word} "
            "flags:u4 ehsize:u2 phentsize:u2 phnum:u2 shentsize:u2 shnum:u2 shstrndx:u2"
        ),
        _fields(
            f"name:u4 type:u4 flags:{word} addr:{word} offset:{word} size:{word} "
            f"link:u4 info:u4 addralign:{word} entsize:{word}"
        ),
        symbol,
        size,
        f"<{word}",
        shift,
    )


FORMS = {1: _form("u4", _SYMBOL32, 8), 2: _form("u8", _SYMBOL64, 32)}  # by the class


def keep_global(data: bytes, kept: Collection[str]) -> bytes:
    """Return a relocatable object whose defined symbols are local, but for those called ``kept``.

    Undefined symbols stay global: the linker finds them elsewhere.
    """
    memory = bytearray(data)
    form = FORMS[memory[4]]
    sections = _sections(memory, form)
    assert not np.isin(sections["type"], (GROUP, MORE_INDICES)).any(), "C code has neither"
    (number,) = np.flatnonzero(sections["type"] == SYMBOLS)
    table = sections[number]
    symbols = _rows(memory, table, form.symbol)
    names = _names(memory, sections[table["link"]], symbols["name"])
    local = (symbols["section"] != UNDEFINED) & ~np.isin(names, list(kept))
    symbols["info"][local] &= 0x0F  # the binding is in the upper half
    is_local = symbols["info"] >> 4 == LOCAL
    order = np.argsort(~is_local, kind="stable")  # local symbols come first
    symbols[:] = symbols[order]
    table["info"] = np.count_nonzero(is_local)
    _renumber(memory, form, sections[sections["link"] == number], np.argsort(order))
    return bytes(memory)


def glibc_needed(data: bytes) -> str | None:
    """Return the oldest glibc that can load a shared library, "2.17", or None without symbols."""
    memory = bytearray(data)
    sections = _sections(memory, FORMS[memory[4]])
    versions = [
        tuple(int(part) for part in name.removeprefix(GLIBC).split("."))
        for section in sections[sections["type"] == NEEDED_VERSIONS]
        for name in _needed_names(memory, section, sections[section["link"]])
        if name.startswith(GLIBC)
    ]
    return ".".join(map(str, max(versions))) if versions else None


def _needed_names(memory: bytearray, section: Any, strings: Any) -> Iterator[str]:
    """Yield the names of all versions that a section asks for, "GLIBC_2.17"."""
    place = int(section["offset"])
    for _ in range(int(section["info"])):
        (needed,) = np.frombuffer(memory, _NEEDED, 1, place)
        version_place = place + int(needed["first"])
        for _ in range(int(needed["count"])):
            (version,) = np.frombuffer(memory, _VERSION, 1, version_place)
            yield str(_names(memory, strings, version["name"][None])[0])
            version_place += int(version["next"])
        place += int(needed["next"])


def _sections(memory: bytearray, form: _Form) -> Table:
    (header,) = np.frombuffer(memory, form.header, 1)
    return np.frombuffer(memory, form.section, int(header["shnum"]), int(header["shoff"]))


def _rows(memory: bytearray, section: Any, row: np.dtype[Any]) -> Table:
    count = int(section["size"]) // row.itemsize
    return np.frombuffer(memory, row, count, int(section["offset"]))


def _names(memory: bytearray, strings: Any, starts: Table) -> NDArray[np.str_]:
    """Return the text at each of ``starts`` in a section of strings."""
    first = int(strings["offset"])
    places = [(first + start, memory.index(0, first + start)) for start in starts.tolist()]
    return np.array([memory[start:end].decode("ascii") for start, end in places])


def _renumber(memory: bytearray, form: _Form, sections: Table, places: Table) -> None:
    """Give the relocations in ``sections`` the new ``places`` of their symbols."""
    low = (1 << form.shift) - 1
    for section in sections[np.isin(sections["type"], RELOCATIONS)]:
        parts = np.dtype(
            {
                "names": ["info"],
                "formats": [form.info_type],
                "offsets": [form.relocation_info],
                "itemsize": int(section["entsize"]),
            }
        )
        info = _rows(memory, section, parts)["info"]
        info[:] = (places[info >> form.shift].astype(info.dtype) << form.shift) | (info & low)
