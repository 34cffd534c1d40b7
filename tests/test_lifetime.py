"""Plugins come and go: memory stays flat."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .support import ECHO, binary, plugin_text

STATUS = Path("/proc/self/statm")

BACK = '(import "extism:host/user" "back" (func $back))'

CYCLES = {"wasmtime": 10_000, "wasmer-pypi": 10_000}


def resident_kibibytes() -> int:
    """Memory of this process that is in use."""
    return int(STATUS.read_text("ascii").split()[1]) * 4


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc/self/statm")
@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer keeps what it sees")
@pytest.mark.parametrize("closing", [True, False], ids=["closed", "forgotten"])
def test_memory_stays_flat(engine: api.Engine, closing: bool) -> None:
    """10,000 times create, call, close: a leak of half a kilobyte each would be seen."""
    if engine.name == "fake":
        pytest.skip("holds nothing outside of Python")

    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        pass

    wasm = binary(plugin_text(f'{ECHO} (func (export "f") (call $back)) (func (export "trap") unreachable)', BACK))
    compiled = extism.CompiledPlugin(wasm, engine=engine, functions=[back])

    def cycle() -> None:
        made = extism.Plugin(compiled)
        made.call("f", b"x" * 3000)
        made.call("echo", b"x")
        with pytest.raises(extism.TrapError):
            made.call("trap")
        if closing:
            made.close()

    cycles = CYCLES.get(engine.name, 1000) if closing else 1000
    for _ in range(300):
        cycle()
    gc.collect()
    before = resident_kibibytes()
    for _ in range(cycles):
        cycle()
    gc.collect()
    assert resident_kibibytes() - before < max(cycles // 2, 2500)


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc/self/statm")
def test_compiling_leaves_nothing_behind(engine: api.Engine) -> None:
    if engine.name == "fake":
        pytest.skip("holds nothing outside of Python")
    wasm = binary(plugin_text(ECHO))

    def cycle() -> None:
        with extism.Plugin(wasm, engine=engine, functions=[]) as made:
            made.call("echo", b"x")

    for _ in range(100):
        cycle()
    gc.collect()
    before = resident_kibibytes()
    for _ in range(500):
        cycle()
    gc.collect()
    assert resident_kibibytes() - before < 4000
