"""What a module declares."""

from __future__ import annotations

import re

import pytest
import wasmtime

from extism_engines.errors import MalformedModuleError
from extism_engines.wasm import (
    ExportType,
    FuncType,
    GlobalType,
    ImportType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValueType,
    is_wasm,
    read_function_names,
    read_module,
)
from extism_engines.wasm.binary import encode_name, encode_section, encode_unsigned
from extism_engines.wasm.declarations import GREATEST_COUNTS

from . import samples
from .builder import HEADER, body, custom, module, section, wat

I32, I64, F32, V128 = ValueType.I32, ValueType.I64, ValueType.F32, ValueType.V128
FUNC, EXTERN, REF = ValueType.FUNCREF, ValueType.EXTERNREF, ValueType.OTHER_REF


def test_declarations_of_the_first_version() -> None:
    summary = read_module(wat(samples.PLAIN))
    assert summary.imports == (
        ImportType("host", "log", FuncType((I32,), ())),
        ImportType("host", "base", GlobalType(I32)),
    )
    assert summary.exports[:4] == (
        ExportType("memory", MemoryType(Limits(1))),
        ExportType("count", GlobalType(I32, mutable=True)),
        ExportType("other", GlobalType(I64, mutable=True)),
        ExportType("fib", FuncType((I32,), (I32,))),
    )
    assert summary.tables == (TableType(FUNC, Limits(2)),)
    assert [memory.type for memory in summary.memories] == [MemoryType(Limits(1))]
    assert summary.start is None
    assert summary.function_count == 6
    assert summary.custom_sections == ("name",)


def test_declarations_of_all_proposals() -> None:
    summary = read_module(wat(samples.WIDE))
    assert [entry.type for entry in summary.imports] == [
        MemoryType(Limits(1, 3)),
        TableType(EXTERN, Limits(1)),
        TagType((I32,)),
    ]
    assert summary.tables == (TableType(REF, Limits(3, 10)), TableType(FUNC, Limits(1, 5), table64=True))
    assert [memory.type for memory in summary.memories] == [
        MemoryType(Limits(1, 9), memory64=True),
        MemoryType(Limits(1, 2)),
    ]
    assert [entry.content for entry in summary.globals] == [REF, I32, V128]
    assert {export.name: export.type for export in summary.exports} == {
        "v": GlobalType(V128, mutable=True),
        "big": MemoryType(Limits(1, 9), memory64=True),
        "wide": TableType(FUNC, Limits(1, 5), table64=True),
        "mine": TagType((I64, F32)),
        "f": FuncType((I32, V128, EXTERN), (I64, REF)),
    }


def test_shared_memory_and_custom_page_size() -> None:
    summary = read_module(module(section(5, b"\x03\x01\x04", b"\x09\x00\x80\x02\x00")))
    assert [memory.type for memory in summary.memories] == [
        MemoryType(Limits(1, 4), shared=True),
        MemoryType(Limits(0, 256)),
    ]
    assert [memory.page_size_log2 for memory in summary.memories] == [16, 0]


def test_long_spellings_of_reference_types() -> None:
    assert read_module(wat("(module (global (ref null extern) (ref.null extern)))")).globals[0].content is EXTERN
    spelled_out = module(section(6, b"\x63\x70\x00\xd0\x70\x0b", b"\x64\x70\x00\xd2\x00\x0b"))
    assert [entry.content for entry in read_module(spelled_out).globals] == [FUNC, REF]


def test_start() -> None:
    assert read_module(wat(samples.START)).start == 0


def test_custom_sections_keep_their_order_and_repeat() -> None:
    assert read_module(module(custom("a"), custom("b", b"x"), custom("a"))).custom_sections == ("a", "b", "a")


def test_empty_module() -> None:
    summary = read_module(HEADER)
    assert (summary.imports, summary.exports, summary.function_count) == ((), (), 0)


def test_is_wasm() -> None:
    assert is_wasm(HEADER)
    assert is_wasm(b"\0asm\x0d\0\x01\0")
    assert not is_wasm(b"(module)")
    assert not is_wasm(b"")


# -- names ---------------------------------------------------------------------------------------------


def test_function_names() -> None:
    assert read_function_names(wat(samples.PLAIN)) == {0: "log", 1: "twice", 2: "fib"}


def test_no_name_section() -> None:
    assert read_function_names(HEADER) == {}


def test_a_broken_name_section_gives_what_could_be_read() -> None:
    names = b"\x01\x0a\x03" + b"\x00\x01a" + b"\x01\x01b" + b"\x02\x09"
    assert read_function_names(module(custom("name", names))) == {0: "a", 1: "b"}
    assert read_function_names(module(custom("name", b"\x01\xff\xff\xff\xff\x0f\x01\x00\x01a"))) == {0: "a"}
    assert read_function_names(b"\0asm") == {}


# -- malformed -----------------------------------------------------------------------------------------

TOO_LONG = b"\x80\x80\x80\x80\x80\x00"


@pytest.mark.parametrize(
    ("wasm", "text"),
    [
        (b"", "expected a WebAssembly module but was given no bytes"),
        (b"\0as", "magic header not detected (at byte 0x0)"),
        (b"(module)", "magic header not detected"),
        (b"\0asm\x01", "unexpected end (at byte 0x5)"),
        (b"\0asm\x02\0\0\0", "unknown binary version 02 00 00 00 (at byte 0x4)"),
        (b"\0asm\x0d\0\x01\0", "expected a WebAssembly module but was given a WebAssembly component"),
        (module(b"\x01"), "unexpected end (at byte 0x9)"),
        (module(b"\x01\x05\x00"), "a section of 5 bytes reaches past the end (at byte 0x8)"),
        (module(b"\x01" + TOO_LONG), "a number of 32 bits takes too many bytes (at byte 0x9)"),
        (module(b"\x01\xff\xff\xff\xff\x1f"), "a number exceeds 32 bits (at byte 0x9)"),
        (module(b"\x0e\x00"), "unknown section 14 (at byte 0x8)"),
        (module(section(3), section(1)), "the type section is out of order (at byte 0xb)"),
        (module(section(1), section(1)), "the type section is out of order"),
        (module(encode_section(1, b"\xff\xff\xff\xff\x0f")), "a vector of 4294967295 items does not fit"),
        (module(section(1, b"\x61")), "unknown type form 0x61 (at byte 0xb)"),
        (module(section(1, b"\x60\x01\x01\x00")), "unknown value type 0x01"),
        (module(section(1, b"\x60\x00\x00\x00")), "1 bytes too many in the type section"),
        (module(section(2, b"\x01\xff\x00\x00\x00")), "a name is not UTF-8 (at byte 0xb)"),
        (module(section(2, b"\x00\x00\x07")), "unknown kind of import 0x07"),
        (module(section(2, b"\x00\x00\x00\x00")), "type 0 is not a function type of this module"),
        (module(section(3, b"\x00")), "type 0 is not a function type of this module"),
        (module(section(5, b"\x10\x01")), "malformed limits flags 0x10"),
        (module(section(6, b"\x7f\x02\x41\x00\x0b")), "malformed mutability 0x02"),
        (module(section(6, b"\x7f\x00\x02\x40\x0b\x0b")), "a block in a constant expression"),
        (module(section(6, b"\x7f\x00\xff\x0b")), "unknown opcode ff"),
        (module(section(6, b"\x7f\x00\x41\x00")), "unexpected end"),
        (module(section(5, b"\0\0"), section(7, b"\x01a\x02\0", b"\x01a\x02\0")), "duplicate export name 'a'"),
        (module(section(7, b"\x01a\x02\x05")), "export 'a' names memory 5, which does not exist"),
        (module(encode_section(8, b"\x00")), "the start function 0 does not exist"),
        (module(section(1, b"\x60\0\0"), section(3, b"\0")), "the module declares 1 functions and has 0 bodies"),
        (module(section(10, body(b""))), "the module declares 0 functions and has 1 bodies"),
        (module(encode_section(0, b"\x05ab")), "unexpected end"),
    ],
)
def test_malformed(wasm: bytes, text: str) -> None:
    with pytest.raises(MalformedModuleError) as caught:
        read_module(wasm)
    assert text in str(caught.value)


MANY = 1_000_001
NOT_READ = b"\xff" * MANY
"""Items that nobody may get to: they are malformed."""


def vector(number: int, count: int, content: bytes) -> bytes:
    """A section with a number of items, whether they are there or not."""
    return encode_section(number, encode_unsigned(count) + content)


TYPE = section(1, b"\x60\0\0")


@pytest.mark.parametrize(
    ("wasm", "text"),
    [
        (module(vector(1, MANY, NOT_READ)), "1,000,001 types are more than the 1,000,000 that engines accept"),
        (module(vector(1, 1, b"\x4e" + encode_unsigned(MANY) + NOT_READ)), "1,000,001 types"),
        (module(vector(1, 3, b"\x60\0\0" * 2 + b"\x4e" + encode_unsigned(MANY - 2) + NOT_READ)), "1,000,001 types"),
        (module(vector(2, MANY, NOT_READ)), "1,000,001 imports"),
        (module(vector(3, MANY, NOT_READ)), "1,000,001 functions"),
        (module(TYPE, section(2, b"\0\0\0\0"), vector(3, MANY - 1, NOT_READ)), "1,000,001 functions"),
        (module(vector(4, 101, NOT_READ)), "101 tables are more than the 100 that engines accept (at byte 0xc)"),
        (module(section(2, b"\0\0\1\x70\0\0"), vector(4, 100, NOT_READ)), "101 tables"),
        (module(vector(2, 200, b"\0\0\1\x70\0\0" * 101 + NOT_READ)), "101 tables"),
        (module(vector(5, 101, NOT_READ)), "101 memories"),
        (module(section(2, b"\0\0\2\0\0"), vector(5, 100, NOT_READ)), "101 memories"),
        (module(vector(2, 200, b"\0\0\2\0\0" * 101 + NOT_READ)), "101 memories"),
        (module(vector(6, MANY, NOT_READ)), "1,000,001 globals"),
        (module(section(2, b"\0\0\3\x7f\0"), vector(6, MANY - 1, NOT_READ)), "1,000,001 globals"),
        (module(vector(7, MANY, NOT_READ)), "1,000,001 exports"),
        (module(vector(9, MANY, NOT_READ)), "1,000,001 element segments"),
        (module(vector(11, MANY, NOT_READ)), "1,000,001 data segments"),
        (module(vector(13, MANY, NOT_READ)), "1,000,001 tags"),
        (module(vector(1, 1, b"\x60" + encode_unsigned(1001) + NOT_READ)), "1,001 parameters"),
        (module(vector(1, 1, b"\x60\0" + encode_unsigned(1001) + NOT_READ)), "1,001 results"),
    ],
)
def test_more_than_engines_accept(wasm: bytes, text: str) -> None:
    with pytest.raises(MalformedModuleError, match=re.escape(text)):
        read_module(wasm)


def _repeated(what: str, count: int) -> bytes:
    values = encode_unsigned(count) + b"\x7f" * count
    return module(
        {
            "tables": vector(4, count, b"\x70\0\0" * count),
            "memories": vector(5, count, b"\0\0" * count),
            "parameters": section(1, b"\x60" + values + b"\0"),
            "results": section(1, b"\x60\0" + values),
        }[what]
    )


@pytest.mark.parametrize("what", ["tables", "memories", "parameters", "results"])
def test_as_many_as_an_engine_accepts(what: str) -> None:
    greatest = GREATEST_COUNTS[what]
    engine = wasmtime.Engine()
    read_module(_repeated(what, greatest))
    wasmtime.Module.validate(engine, _repeated(what, greatest))
    with pytest.raises(MalformedModuleError):
        read_module(_repeated(what, greatest + 1))
    with pytest.raises(wasmtime.WasmtimeError):
        wasmtime.Module.validate(engine, _repeated(what, greatest + 1))


def test_names_may_be_anything_that_is_utf_8() -> None:
    name = "\0 é \U0001f980"
    entry = encode_name(name) + encode_name("") + b"\x02\x00\x00"
    assert read_module(module(section(2, entry))).imports[0].module == name
