"""Makes, calls and drops many plugins, and prints by how many KiB this process grew meanwhile.

Run by ``test_lifetime.py`` in a process of its own: ``python -m tests.cycles ENGINE CYCLES closed|forgotten|compiled``.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import extism_engines as extism

from .support import ECHO, binary, plugin_text

BODY = f'{ECHO} (func (export "f") (call $back)) (func (export "trap") unreachable)'
BACK = '(import "extism:host/user" "back" (func $back))'


@extism.host_fn(name="back", signature=([], []))
def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
    """What the guest calls back."""


def use(made: extism.Plugin) -> None:
    """A call with a callback, one with output, and one that fails."""
    made.call("f", b"x" * 3000)
    made.call("echo", b"x")
    try:
        made.call("trap")
    except extism.TrapError:
        return
    raise AssertionError("the trap did not trap")


def cycle(engine: str, kind: str) -> Callable[[], None]:
    """One life of a plugin: closed or forgotten at its end, or compiled anew each time."""
    wasm = binary(plugin_text(BODY, BACK))
    compiled = extism.CompiledPlugin(wasm, engine=engine, functions=[back])

    def live() -> None:
        made = extism.Plugin(wasm, engine=engine, functions=[back]) if kind == "compiled" else extism.Plugin(compiled)
        use(made)
        if kind != "forgotten":
            made.close()

    return live


def resident_kibibytes() -> int:
    """Memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4


def main() -> None:
    """Prints the growth over the given number of cycles, after some to warm up."""
    engine, cycles, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    live = cycle(engine, kind)
    for _ in range(300):
        live()
    gc.collect()
    before = resident_kibibytes()
    for _ in range(cycles):
        live()
    gc.collect()
    print(resident_kibibytes() - before)


if __name__ == "__main__":
    main()
