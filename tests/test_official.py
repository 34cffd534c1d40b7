"""The same plugins on the official SDK and on every engine here: outputs, error texts and vars agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .support import ECHO, binary, plugin_text

official = pytest.importorskip("extism", reason="the official SDK is not installed")

GUESTS = Path(__file__).resolve().parent.parent / "conformance" / "guests"

INPUTS = [
    b"",
    b"a",
    b"1234567",
    b"12345678",
    b"123456789",
    b"Hello, World!",
    "grüße, 世界".encode(),
    bytes(range(1, 256)) * 40,
]


def outcome(sdk: Any, plugin: Any, function: str, data: bytes) -> Any:
    """Output of a call, or the text of its error."""
    try:
        return plugin.call(function, data)
    except sdk.Error as error:
        return str(error)


def exports(wasm: bytes) -> tuple[str, ...]:
    """What the guest exports, as every engine sees it."""
    with extism.Plugin(wasm, functions=[]) as made:
        return made.exports


@pytest.mark.parametrize("guest", ["c", "assemblyscript", "wat"])
@pytest.mark.parametrize("config", [{}, {"greeting": "Salut", "vowels": "xyz"}], ids=["plain", "configured"])
def test_guests_agree(engine: api.Engine, guest: str, config: dict[str, str]) -> None:
    wasm = (GUESTS / guest / "guest.wasm").read_bytes()
    theirs = official.Plugin(wasm, config=config, functions=[])
    with extism.Plugin(wasm, engine=engine, config=config, functions=[]) as ours:
        for function in (*exports(wasm), "nope"):
            if function == "trap":
                continue  # the official text is a backtrace without the reason
            for data in INPUTS:
                if guest == "assemblyscript" and data.startswith(b"\1"):
                    continue  # text only
                if function == "fail" and data.startswith(b"\1"):
                    continue  # the official SDK cannot show an error text that is not UTF-8
                expected = outcome(official, theirs, function, data)
                assert outcome(extism, ours, function, data) == expected, (function, data[:20])


BODIES = {
    "status": '(func (export "f") (result i32) (i32.const 7))',
    "negative status": '(func (export "f") (result i32) (i32.const -7))',
    "float result": '(func (export "f") (result f64) (f64.const 1))',
    "parameter": '(func (export "f") (param i32))',
    "output beyond the block": '(func (export "f") (call $output_set (call $alloc (i64.const 4)) (i64.const 9)))',
    "output out of range": '(func (export "f") (call $output_set (i64.const 0xfffffffff) (i64.const 9)))',
    "output of nothing": '(func (export "f") (call $output_set (i64.const 0) (i64.const 0)))',
    "input freed": '(func (export "f") (call $free (call $input_offset)) (call $output_set (call $input_offset) (call $input_length)))',
    "error and success": """(func (export "f") (result i32) (local $h i64) (local.set $h (call $alloc (i64.const 3)))
        (call $store_u8 (local.get $h) (i32.const 69)) (call $store_u8 (i64.add (local.get $h) (i64.const 1)) (i32.const 0))
        (call $error_set (local.get $h)) (i32.const 0))""",
    "error freed": """(func (export "f") (result i32) (local $h i64) (local.set $h (call $alloc (i64.const 3)))
        (call $error_set (local.get $h)) (call $free (local.get $h)) (i32.const 0))""",
    "error then trap": """(func (export "f") (local $h i64) (local.set $h (call $alloc (i64.const 1)))
        (call $store_u8 (local.get $h) (i32.const 88)) (call $error_set (local.get $h)) unreachable)""",
    "echo": ECHO.replace('"echo"', '"f"'),
}


@pytest.mark.parametrize("name", BODIES)
def test_outcomes_agree(engine: api.Engine, name: str) -> None:
    wasm = binary(plugin_text(BODIES[name]))
    theirs = official.Plugin(wasm, functions=[])
    with extism.Plugin(wasm, engine=engine, functions=[]) as ours:
        assert ours.function_exists("f") == theirs.function_exists("f")
        for data in (b"", b"some input"):
            expected = outcome(official, theirs, "f", data)
            found = outcome(extism, ours, "f", data)
            if name == "output beyond the block":
                # What lies behind a block is the allocator's own business: the length is not.
                found, expected = len(found), len(expected)
            assert found == expected
