"""Start function, sizes, reserved names."""

from __future__ import annotations

import time
from typing import Any

import pytest
import wasmtime

from extism_engines.errors import InstantiationError, LinkError, MalformedModuleError, OutOfMemoryError
from extism_engines.wasm import START_EXPORT, FuncType, GlobalType, Limits, Needs, ValueType, prepare, read_module
from extism_engines.wasm.binary import encode_name, encode_section
from extism_engines.wasm.sections import SectionId

from . import samples
from .builder import body, custom, module, section, wat

NOTHING = Needs()


def validate(wasm: bytes) -> None:
    """Raises unless Wasmtime finds the module valid."""
    config = wasmtime.Config()
    config.shared_memory = True
    wasmtime.Module.validate(wasmtime.Engine(config), wasm)


def test_validate_can_fail() -> None:
    with pytest.raises(wasmtime.WasmtimeError):
        validate(wat("(module (func))")[:-1] + b"\x0c")


def test_nothing_to_do_gives_the_same_object() -> None:
    wasm = wat(samples.PLAIN)
    assert prepare(wasm, NOTHING).wasm is wasm
    roomy = prepare(wasm, Needs(memory_pages=65536, table_elements=2**32 - 1))
    assert read_module(roomy.wasm).memories[0].type.limits == Limits(1, 65536)
    leafy = wat("(module (func (export \"f\")))")
    assert prepare(leafy, Needs(stack_budget=True)).wasm is leafy


# -- start ---------------------------------------------------------------------------------------------


def test_start_becomes_an_export() -> None:
    prepared = prepare(wat(samples.START), NOTHING)
    validate(prepared.wasm)
    assert prepared.start_export == START_EXPORT == "extism-engines:start"
    summary = read_module(prepared.wasm)
    assert summary.start is None
    assert summary.section(SectionId.START) is None
    assert {export.name: export.type for export in summary.exports}[START_EXPORT] == FuncType()
    store = wasmtime.Store()
    exports: Any = wasmtime.Instance(store, wasmtime.Module(store.engine, prepared.wasm), []).exports(store)
    assert exports["g"].value(store) == 1
    exports[START_EXPORT](store)
    assert exports["g"].value(store) == 42


def test_start_without_an_export_section() -> None:
    prepared = prepare(wat("(module (func $f) (start $f) (data \"\"))"), NOTHING)
    validate(prepared.wasm)
    assert [export.name for export in read_module(prepared.wasm).exports] == [START_EXPORT]


def test_an_imported_start_function() -> None:
    prepared = prepare(wat('(module (import "m" "f" (func $f)) (start $f))'), NOTHING)
    validate(prepared.wasm)
    assert prepared.start_export == START_EXPORT


# -- sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "cap", "limits"),
    [
        ("1", 10, Limits(1, 10)),
        ("1 20", 10, Limits(1, 10)),
        ("1 5", 10, Limits(1, 5)),
        ("10", 10, Limits(10, 10)),
        ("0", 0, Limits(0, 0)),
        ("i64 1", 10, Limits(1, 10)),
        ("i64 1 0x1000000000000", 10, Limits(1, 10)),
        ("1 300 shared", 200, Limits(1, 200)),
        ("1", 1 << 40, Limits(1, 65536)),
        ("i64 1", 1 << 40, Limits(1, 1 << 40)),
    ],
)
def test_memory_maximum(declared: str, cap: int, limits: Limits) -> None:
    wasm = wat(f"(module (memory {declared}))")
    prepared = prepare(wasm, Needs(memory_pages=cap)).wasm
    validate(prepared)
    memory, before = read_module(prepared).memories[0].type, read_module(wasm).memories[0].type
    assert memory.limits == limits
    assert (memory.memory64, memory.shared) == (before.memory64, before.shared)


def test_memory_of_small_pages() -> None:
    prepared = prepare(module(section(5, b"\x08\x01\x00")), Needs(memory_pages=2)).wasm
    memory = read_module(prepared).memories[0]
    assert memory.type.limits == Limits(1, 131072)
    assert memory.page_size_log2 == 0


def test_every_defined_memory_and_no_imported_one() -> None:
    wasm = wat('(module (import "m" "m" (memory 1 99)) (memory 1) (memory i64 2 77))')
    prepared = prepare(wasm, Needs(memory_pages=7)).wasm
    validate(prepared)
    summary = read_module(prepared)
    assert summary.imports == read_module(wasm).imports
    assert [memory.type.limits for memory in summary.memories] == [Limits(1, 7), Limits(2, 7)]


@pytest.mark.parametrize("declared", ["11", "11 20", "i64 11"])
def test_too_much_memory_at_once(declared: str) -> None:
    with pytest.raises(OutOfMemoryError, match="^oom$"):
        prepare(wat(f"(module (memory {declared}))"), Needs(memory_pages=10))


@pytest.mark.parametrize(
    ("declared", "cap", "limits"),
    [
        ("1 funcref", 10, Limits(1, 10)),
        ("1 20 externref", 10, Limits(1, 10)),
        ("1 5 funcref", 10, Limits(1, 5)),
        ("i64 1 funcref", 10, Limits(1, 10)),
        ("1 (ref null any) (ref.null any)", 10, Limits(1, 10)),
        ("1 funcref", 1 << 40, Limits(1, 2**32 - 1)),
    ],
)
def test_table_maximum(declared: str, cap: int, limits: Limits) -> None:
    wasm = wat(f"(module (table {declared}))")
    prepared = prepare(wasm, Needs(table_elements=cap)).wasm
    validate(prepared)
    table, before = read_module(prepared).tables[0], read_module(wasm).tables[0]
    assert table.limits == limits
    assert (table.element, table.table64) == (before.element, before.table64)


def test_a_table_too_large() -> None:
    with pytest.raises(InstantiationError, match="a table wants 11 elements at once, and 10 are the limit"):
        prepare(wat("(module (table 11 funcref))"), Needs(table_elements=10))


def test_growth_ends_at_the_cap() -> None:
    text = """(module (memory 1) (table 1 funcref)
        (func (export "memory") (result i32) (memory.grow (i32.const 2)))
        (func (export "table") (result i32) (table.grow (ref.null func) (i32.const 2))))"""
    for needs, results in [
        (Needs(memory_pages=3, table_elements=3), (1, 1)),
        (Needs(memory_pages=2, table_elements=2), (-1, -1)),
    ]:
        store = wasmtime.Store()
        compiled = wasmtime.Module(store.engine, prepare(wat(text), needs).wasm)
        exports: Any = wasmtime.Instance(store, compiled, []).exports(store)
        assert (exports["memory"](store), exports["table"](store)) == results


def test_all_at_once() -> None:
    needs = Needs(stack_budget=True, memory_pages=9, table_elements=9)
    for text in (samples.PLAIN, samples.WIDE, samples.START):
        validate(prepare(wat(text), needs).wasm)


# -- reserved names ------------------------------------------------------------------------------------


def test_reserved_names() -> None:
    with pytest.raises(LinkError, match="the import 'extism-engines' 'stack' has a module name that is reserved"):
        prepare(wat('(module (import "extism-engines" "stack" (global (mut i32))))'), NOTHING)
    with pytest.raises(LinkError, match="the export 'extism-engines:start' has a name that is reserved"):
        prepare(wat('(module (func (export "extism-engines:start")))'), NOTHING)
    neighbours = wat('(module (import "extism-engines2" "f" (func)) (func (export "extism-engines")))')
    assert prepare(neighbours, NOTHING).wasm is neighbours


def test_malformed() -> None:
    with pytest.raises(MalformedModuleError):
        prepare(b"\0asm", NOTHING)


# -- custom sections -----------------------------------------------------------------------------------


def test_custom_sections_with_code_offsets_go_when_code_changes() -> None:
    names = [".debug_info", "metadata.code.branch_hint", "linking", "reloc.CODE", "producers", "name", "debug"]
    wasm = wat(samples.PLAIN) + b"".join(custom(name) for name in names)
    kept = read_module(prepare(wasm, Needs(stack_budget=True)).wasm).custom_sections
    assert kept == ("producers", "debug")
    assert read_module(prepare(wasm, Needs(memory_pages=9)).wasm).custom_sections == ("name", *names)


def test_names_go_when_the_stack_is_counted() -> None:
    names = custom("name", b"\x01\x04\x01\0\x01f")
    sections = section(1, b"\x60\0\0"), section(3, b"\0"), section(10, body(b""))
    leafy = module(*sections, names, custom("x"), names)
    assert prepare(leafy, Needs(stack_budget=True)).wasm == module(*sections, custom("x"))
    assert prepare(leafy, Needs(memory_pages=1, table_elements=1)).wasm is leafy


def test_sections_that_do_not_change_are_copied() -> None:
    wasm = module(section(1, b"\x60\x80\0\0"), custom("x", b"\xff"), section(5, b"\0\x81\0"))
    prepared = prepare(wasm, Needs(memory_pages=1)).wasm
    assert prepared == module(section(1, b"\x60\x80\0\0"), custom("x", b"\xff"), section(5, b"\x01\x01\x01"))


def test_new_sections_come_between_sections_that_are_copied() -> None:
    types, functions = section(1, b"\x60\0\0"), section(3, b"\0")
    marks = [custom(mark, mark.encode()) for mark in "abcd"]
    start, code = encode_section(8, b"\0"), section(10, body(b""))
    wasm = module(marks[0], types, marks[1], functions, marks[2], start, marks[3], code)
    prepared = prepare(wasm, NOTHING).wasm
    exported = section(7, encode_name("extism-engines:start") + b"\0\0")
    assert prepared == module(marks[0], types, marks[1], functions, marks[2], exported, marks[3], code)


def test_many_sections_and_many_edits_take_linear_time() -> None:
    count = 20_000
    names = [encode_name(str(index)) + b"\x03\0" for index in range(count)]
    declared = section(1, b"\x60\0\0"), section(3, b"\0"), section(6, b"\x7f\0\x41\0\x0b")
    wasm = module(*declared, section(7, *names), custom("") * count, section(10, body(b"\x10\0")))
    begun = time.process_time()
    prepared = prepare(wasm, Needs(stack_budget=True)).wasm
    # Half a second; the product of the two takes a minute.
    assert time.process_time() - begun < 10
    assert read_module(prepared).custom_sections == ("",) * count
    assert all(export.type == GlobalType(ValueType.I32, mutable=False) for export in read_module(prepared).exports)


def test_exports_with_long_names_survive() -> None:
    name = "x" * 300
    wasm = module(section(5, b"\0\1"), section(7, encode_name(name) + b"\x02\0"))
    assert read_module(prepare(wasm, Needs(memory_pages=1)).wasm).exports[0].name == name
