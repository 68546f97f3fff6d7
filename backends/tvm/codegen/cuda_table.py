"""The C source around ``cuda_entry.c``: a network's table of launches, and its cubins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from gmpq.backends.tvm.codegen.launches import Argument, Launch, LaunchTable

ENTRY_SOURCE = Path(__file__).with_name("cuda_entry.c")
TYPES = """\
#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))
#define ENTRY(name) {prefix}_##name

enum Place {{ PARAMS, WORKSPACE, INPUT, OUTPUT }};
typedef struct {{ int place, index; uint64_t offset; }} Argument;
typedef struct {{ int kernel; unsigned grid[3], threads, shared; int first, count; }} Launch;
typedef struct {{ int capability; const unsigned char *bytes; }} Image;

enum {{
  IMAGES = {images}, KERNELS = {kernels}, STEPS = {steps}, INPUTS = {inputs}, OUTPUTS = {outputs},
  MOST_ARGUMENTS = {most_arguments}
}};
#define PARAMS_BYTES UINT64_C({params_bytes})
#define WORKSPACE_BYTES UINT64_C({workspace_bytes})
"""
# The assembler reads a cubin from its file; a driver wants it aligned. An emulated one reads none.
INCLUDED = """\
#ifdef GMPQ_EMULATED
static const unsigned char cubin_{capability}[1];
#else
__asm__(".section .rodata\\n.balign 64\\ncubin_{capability}:\\n.incbin \\"{file}\\"\\n.previous");
extern const unsigned char cubin_{capability}[] __attribute__((visibility("hidden")));
#endif
"""


def entry_source(table: LaunchTable, cubins: Mapping[int, str], prefix: str) -> str:
    """Return the C source of an entry; ``cubins`` are files by the compute capability, 80 is 8.0.

    It ends with the text of ``cuda_entry.c``, and is compiled in the folder of the files.
    """
    kernels = {name: number for number, name in enumerate(table.kernels)}
    launches = [launch for step in table.steps for launch in step]
    firsts = [0, *accumulate(len(launch.arguments) for launch in launches)]
    sizes = TYPES.format(
        prefix=prefix,
        images=len(cubins),
        kernels=len(kernels),
        steps=len(table.steps),
        most_arguments=max(len(launch.arguments) for launch in launches),
        inputs=len(table.input_bytes),
        outputs=len(table.output_bytes),
        params_bytes=table.params_bytes,
        workspace_bytes=table.workspace_bytes,
    )
    rows = [
        _launch(launch, kernels[launch.kernel], first)
        for launch, first in zip(launches, firsts, strict=False)
    ]
    arguments = [_argument(each) for launch in launches for each in launch.arguments]
    return "\n".join(
        (
            sizes,
            *(INCLUDED.format(capability=c, file=file) for c, file in cubins.items()),
            _array("Image images", [f"{{{c}, cubin_{c}}}" for c in cubins]),
            _array("char *const kernel_names", [f'"{name}"' for name in kernels]),
            _array("Argument arguments", arguments),
            _array("Launch launches", rows),
            _array("int steps", _ends(table)),
            _array("uint64_t input_bytes", table.input_bytes),
            _array("uint64_t output_bytes", table.output_bytes),
            ENTRY_SOURCE.read_text(),
        )
    )


def _ends(table: LaunchTable) -> Sequence[int]:
    """Return the number of the first launch of each step, and of all launches."""
    return [0, *accumulate(len(step) for step in table.steps)]


def _launch(launch: Launch, kernel: int, first: int) -> str:
    grid = ", ".join(map(str, launch.grid))
    place = f"{first}, {len(launch.arguments)}"
    return f"{{{kernel}, {{{grid}}}, {launch.threads}, {launch.dynamic_shared}, {place}}}"


def _argument(argument: Argument) -> str:
    return f"{{{argument.place.name}, {argument.index}, {argument.offset}}}"


def _array(name: str, items: Iterable[object]) -> str:
    rows = "".join(f"  {item},\n" for item in items)
    return f"static const {name}[] = {{\n{rows}}};"
