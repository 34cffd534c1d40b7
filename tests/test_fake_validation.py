"""The fake engine accepts the modules that wasmtime accepts, and sees in them what our reader sees."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import wasmtime

from extism_engines.errors import InvalidModuleError, MalformedModuleError, UnsupportedFeatureError
from extism_engines.wasm.types import ExportType, FuncType

from .fakes.both import OUT_OF_FUEL, Fake, Reference, binary, program, same_features
from .fakes.engine import create
from .fakes.module import DecodedModule
from .fakes.numeric import F32, F64, I32, I64


def _accepts(wasm: bytes) -> DecodedModule | None:
    try:
        return DecodedModule(wasm)
    except (InvalidModuleError, UnsupportedFeatureError):
        return None


def _mutants(wasm: bytes, count: int, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(wasm)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            place = chance.randrange(8, len(mutant))
            if chance.random() < 0.2:
                mutant[place : place + 1] = [] if chance.random() < 0.5 else [mutant[place], chance.randrange(256)]
            else:
                mutant[place] = chance.choice((chance.randrange(256), mutant[place] ^ 1, chance.randrange(0x20)))
        yield bytes(mutant)


def _same_types(wasm: bytes, decoded: DecodedModule) -> None:
    """Our reader and the interpreter's decoder, which share nothing, see the same declarations."""
    module = create(None).compile(wasm)
    spaces: list[Sequence[Any]] = [
        *(decoded.function_types, decoded.table_types, decoded.memory_types, decoded.global_types),
    ]
    assert list(module.imports) == decoded.imports
    exports = [ExportType(name, spaces[kind][index]) for name, (kind, index) in decoded.exports.items()]
    assert list(module.exports) == exports


def _runs_alike(wasm: bytes, engine: wasmtime.Engine) -> None:
    try:
        reference = Reference(wasm, engine)
    except wasmtime.Trap:
        return  # instantiation has tests of its own
    fake = Fake(wasm)
    for export in fake.module.exports:
        if not isinstance(export.type, FuncType) or not all(kind.is_number for kind in export.type.params):
            continue
        args = [{I32: 3, I64: 5, F32: 1.5, F64: -2.5}[kind] for kind in export.type.params]
        expected = reference.function(export.name)(*args)
        if expected == OUT_OF_FUEL:
            return
        if all(kind.is_number for kind in export.type.results):
            assert repr(fake.function(export.name)(*args)) == repr(expected), export.name


@pytest.mark.parametrize(("name", "count"), [("control", 500), ("tables", 400), ("memory", 200)])
def test_damaged_modules_are_accepted_and_run_as_on_wasmtime(name: str, count: int) -> None:
    engine = same_features()
    wasm = binary(program(name))
    accepted = 0
    for mutant in _mutants(wasm, count, seed=1):
        decoded = _accepts(mutant)
        try:
            wasmtime.Module.validate(engine, mutant)
            valid = True
        except wasmtime.WasmtimeError as error:
            valid = False
            message = str(error)
        assert (decoded is not None) == valid, (mutant.hex(), "" if valid else message)
        if decoded is not None:
            accepted += 1
            _same_types(mutant, decoded)
            _runs_alike(mutant, engine)
    assert count / 10 < accepted < count * 9 / 10


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("(module (func (drop (v128.const i32x4 0 0 0 0))))", "0xfd 0x0c"),
        ("(module (func $f (return_call $f)))", "0x12"),
        ("(module (memory 1 1 shared))", "threads"),
        ("(module (memory i64 1))", "memory64"),
        ("(module (memory 1) (memory 1))", "multi-memory"),
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "0xfe 0x10"),
        ("(module (tag) (func (throw 0)))", "exceptions"),
        ("(module (tag) (import \"a\" \"b\" (tag)))", "exceptions"),
        ("(module (func (try_table)))", "0x1f"),
        ("(module (type (struct)))", "gc"),
        ("(module (func (param v128)))", "simd"),
        ("(module (func (drop (i64.mul_wide_s (i64.const 1) (i64.const 1)))))", "0xfc15"),
    ],
)  # fmt: skip
def test_what_it_lacks_it_names(text: str, named: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=named):
        create(None).compile(binary(text))


@pytest.mark.parametrize("wasm", [b"", b"\0asm", b"\0asm\2\0\0\0", b"(module)", b"\0asm\1\0\0\0\1\xff"])
def test_garbage_is_refused(wasm: bytes) -> None:
    with pytest.raises((InvalidModuleError, MalformedModuleError)):
        create(None).compile(wasm)
