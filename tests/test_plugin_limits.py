"""Limits on memory, tables, input, output and modules, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .support import CALL_BACK, ECHO, binary, plugin, plugin_text

GROW = """(func (export "grow") (result i32) (memory.grow (i32.const 1)))
  (func (export "alloc") (result i32) (i32.wrap_i64 (call $alloc (i64.const 100000))))"""


def test_memory_is_limited(engine: api.Engine) -> None:
    for options in ({"limits": extism.Limits(memory_pages=2)}, {}):
        source: Any = {"wasm": [{"data": binary(plugin_text(GROW + ECHO))}]}
        if not options:
            source["memory"] = {"max_pages": 2}
        with extism.Plugin(source, engine=engine, functions=[], **options) as made:  # type: ignore[arg-type]
            with pytest.raises(extism.GuestError, match="^Error code: 1$"):
                made.call("grow")
            with pytest.raises(extism.GuestError, match="^Error code: -1$"):
                made.call("grow")
            with pytest.raises(extism.GuestError, match="^Error code: "):
                made.call("alloc")
            with pytest.raises(extism.OutOfMemoryError, match="^oom$") as caught:
                made.call("echo", bytes(200_000))
            assert isinstance(caught.value, MemoryError)
            assert caught.value.exit_code == -1
            assert made.call("echo", b"fine") == b"fine"


def test_a_block_beyond_the_limit_is_oom(engine: api.Engine) -> None:
    with plugin(engine, GROW + ECHO, limits=extism.Limits(memory_pages=1)) as made:
        with pytest.raises(extism.OutOfMemoryError, match="^oom$"):
            made.call("alloc", bytes(40_000))
        assert made.call("echo", b"fine") == b"fine"


def test_a_memory_that_begins_too_large_is_oom(engine: api.Engine) -> None:
    wasm = binary('(module (memory (export "memory") 3) (func (export "f")))')
    with pytest.raises(extism.OutOfMemoryError, match="oom"):
        extism.Plugin(wasm, engine=engine, limits=extism.Limits(memory_pages=2))
    with extism.Plugin(wasm, engine=engine, limits=extism.Limits(memory_pages=3)) as made:
        made.call("f")


def test_tables_are_limited(engine: api.Engine) -> None:
    text = (
        '(module (table 1 funcref) (func (export "f") (result i32) (table.grow (ref.null func) (i32.const 2000000))))'
    )
    with extism.Plugin(binary(text), engine=engine) as made, pytest.raises(extism.GuestError, match="^Error code: -1$"):
        made.call("f")


def test_input_output_and_modules_are_limited(engine: api.Engine) -> None:
    with plugin(engine, ECHO, limits=extism.Limits(input_bytes=10, output_bytes=5)) as made:
        assert made.call("echo", b"12345") == b"12345"
        with pytest.raises(extism.CallError, match="the output has 6 bytes; 5 are allowed"):
            made.call("echo", b"123456")
        with pytest.raises(extism.CallError, match="the input has 11 bytes; 10 are allowed"):
            made.call("echo", b"12345678901")
    with pytest.raises(extism.SourceError, match="larger than the 20 bytes"):
        plugin(engine, ECHO, limits=extism.Limits(module_bytes=20))


def test_a_limit_that_cannot_be_kept_is_refused(engine: api.Engine) -> None:
    source = {"wasm": [{"data": binary(plugin_text(ECHO))}], "timeout_ms": 1000}
    with pytest.raises(extism.UnsupportedFeatureError, match="^timeout_ms: "):
        extism.Plugin(source, engine=engine)


def test_an_allocation_that_the_host_catches_is_not_the_reason_of_a_later_trap(engine: api.Engine) -> None:
    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        with pytest.raises(extism.OutOfMemoryError):
            current.alloc(1_000_000)

    body = '(func (export "f") (call $back) unreachable)'
    limits = extism.Limits(memory_pages=1)
    with plugin(engine, body, CALL_BACK, functions=[back], limits=limits) as made, pytest.raises(extism.TrapError):
        made.call("f")


def test_memory_limits_do_not_cover_collected_heaps(wasmtime_engine: api.Engine) -> None:
    wasm = binary('(module (type $a (array i8)) (func (export "f") (drop (array.new_default $a (i32.const 1)))))')
    extism.Plugin(wasm, engine=wasmtime_engine, functions=[]).call("f")
    with pytest.raises(extism.UnsupportedFeatureError, match="garbage collected heap"):
        extism.Plugin(wasm, engine=wasmtime_engine, functions=[], limits=extism.Limits(memory_pages=10))
