"""Small things that many tests need."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import extism_engines as extism
from extism_engines.engines import api, engines, get_engine
from extism_engines.errors import UnsupportedFeatureError
from extism_engines.wasm.types import FuncType, ValueType

I32, I64, F32, F64 = ValueType.I32, ValueType.I64, ValueType.F32, ValueType.F64
HANDLE_TO_HANDLE = FuncType((I64,), (I64,))


@cache
def binary(text: str) -> bytes:
    """A module written as text, by the first engine that reads text."""
    for info in engines():
        if info.available:
            try:
                return get_engine(info.name).parse_text(text)
            except UnsupportedFeatureError:
                continue
    raise AssertionError("no engine here reads the text format")


def func(extern: Any) -> api.Func:
    """Narrows an export to a function."""
    assert isinstance(extern, api.Func)
    return extern


def memory(extern: Any) -> api.Memory:
    """Narrows an export to a memory."""
    assert isinstance(extern, api.Memory)
    return extern


def instance(store: api.Store, engine: api.Engine, text: str, *imports: api.Extern) -> dict[str, Any]:
    """Exports of an instance of a module written as text."""
    return dict(store.instantiate(engine.compile(binary(text)), imports).exports)


# A plugin's usual imports and helpers, to be followed by its exports. `$out` sets the output to a block, `$copy` makes a
# block with the bytes of its memory from an offset.
PRELUDE = """
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "free" (func $free (param i64)))
  (import "extism:host/env" "length" (func $length (param i64) (result i64)))
  (import "extism:host/env" "load_u8" (func $load_u8 (param i64) (result i32)))
  (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
  (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
  (import "extism:host/env" "input_offset" (func $input_offset (result i64)))
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
  (import "extism:host/env" "error_set" (func $error_set (param i64)))
"""

HELPERS = """
  (memory (export "memory") 1)
  (func $out (param $h i64) (call $output_set (local.get $h) (call $length (local.get $h))))
  (func $copy (param $from i32) (param $size i32) (result i64)
    (local $h i64) (local $i i32)
    (local.set $h (call $alloc (i64.extend_i32_u (local.get $size))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $size)))
      (call $store_u8 (i64.add (local.get $h) (i64.extend_i32_u (local.get $i)))
        (i32.load8_u (i32.add (local.get $from) (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (local.get $h))
"""


def plugin_text(body: str, imports: str = "") -> str:
    """The text of a plugin: usual imports, further ones, helpers, and what the test is about."""
    return f"(module {PRELUDE} {imports} {HELPERS} {body})"


def plugin(engine: api.Engine, body: str, imports: str = "", **options: Any) -> extism.Plugin:
    """A plugin of a body as for :func:`plugin_text`. Without host functions unless some are given."""
    options.setdefault("functions", [])
    return extism.Plugin(binary(plugin_text(body, imports)), engine=engine, **options)


ECHO = """
  (func (export "echo") (result i32)
    (call $output_set (call $input_offset) (call $input_length)) (i32.const 0))
"""

# Error text "bad" from offset 0 of the guest's memory, and setting it.
BAD = '(data (i32.const 0) "bad\\00tail")'
SET_BAD = "(call $error_set (call $copy (i32.const 0) (i32.const 3)))"

CALL_BACK = """(import "extism:host/user" "back" (func $back))"""

COUNTER = """(global $n (mut i32) (i32.const 48))
  (func (export "next") (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (i32.store8 (i32.const 9) (global.get $n)) (call $out (call $copy (i32.const 9) (i32.const 1))))
  (func (export "trap") (global.set $n (i32.add (global.get $n) (i32.const 1))) unreachable)
  (func (export "fail") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.const 1))
  (func (export "_start") (global.set $n (i32.const 65)))"""


def in_thread(function: Any, stack: int = 0) -> Any:
    """What a function gives in a thread of its own, or the exception that it raised. ``stack`` is in bytes, 0 for the
    usual size."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    before = threading.stack_size(stack)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return found[0]
