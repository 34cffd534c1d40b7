"""The walker: strides and single steps must agree."""

from __future__ import annotations

import pytest

from extism_engines.wasm.binary import Cursor, encode_signed, encode_unsigned
from extism_engines.wasm.code import read_instruction, stride, walk
from extism_engines.wasm.opcodes import Immediate, Instruction, Op, instruction_set

IMMEDIATES: dict[Immediate, list[bytes]] = {
    Immediate.INDEX: [b"\x00", b"\x7f", b"\x80\x01", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x00"],
    Immediate.INTEGER: [b"\x00", b"\x7f", b"\x80\x01", b"\x80" * 9 + b"\x00", b"\xff" * 9 + b"\x7f"],
    Immediate.MEMARG: [b"\x00\x00", b"\x03\x80\x80\x04", b"\x42\x01\x00", b"\xc2\x00\x80\x01\xff\x01"],
    Immediate.BLOCK_TYPE: [b"\x40", b"\x7f", b"\x70", b"\x00", b"\x80\x01", b"\x63\x70", b"\x64\x80\x01"],
    Immediate.HEAP_TYPE: [b"\x70", b"\x6e", b"\x05", b"\x80\x01"],
    Immediate.VALUE_TYPES: [b"\x01\x7f", b"\x01\x63\x05", b"\x02\x7f\x7e", b"\x00"],
    Immediate.LABELS: [b"\x00\x00", b"\x02\x01\x80\x01\x00"],
    Immediate.CATCHES: [b"\x00", b"\x04\x00\x01\x02\x01\x80\x01\x00\x02\x03\x03\x04"],
    Immediate.BYTE: [b"\x00", b"\x0b", b"\xff"],
    Immediate.BYTES_4: [b"\x0b\x0b\x0b\x0b", b"\n\r\xff\x00"],
    Immediate.BYTES_8: [b"\x0b" * 8],
    Immediate.BYTES_16: [b"\x0b" * 16, bytes(range(16))],
}
TABLE = instruction_set()
LAST_RESORT = {Immediate.LABELS, Immediate.CATCHES, Immediate.VALUE_TYPES}
"""Immediates that a stride may leave to read_instruction."""


def encodings(instruction: Instruction) -> list[bytes]:
    """Some encodings of an instruction, each kind of immediate in several forms."""
    result = [instruction.encoding]
    for immediate in instruction.immediates:
        result = [head + tail for head in result for tail in IMMEDIATES[immediate]]
    return result


def another(code: int) -> bytes:
    """An instruction of one byte, other than the given one."""
    return b"\x01" if code != 1 else b"\x1a"


def overlong(instruction: Instruction) -> bytes:
    """The opcode with its number in five bytes."""
    prefix, number = instruction.code >> 16, instruction.code & 0xFFFF
    groups = [number & 0x7F, number >> 7 & 0x7F, 0, 0]
    return bytes([prefix, *(group | 0x80 for group in groups), 0])


@pytest.mark.parametrize("code", TABLE, ids=hex)
def test_single_steps_and_strides_agree(code: int) -> None:
    instruction = TABLE[code]
    everything = stride(frozenset())
    after = another(code)
    for encoding in encodings(instruction):
        cursor = Cursor(encoding + after * 2)
        assert read_instruction(cursor) is instruction
        assert cursor.pos == len(encoding)
        end = everything(encoding + after * 2, 0, len(encoding) + 2)
        if LAST_RESORT.isdisjoint(instruction.immediates):
            assert end == len(encoding) + 2
        else:
            assert end in (0, len(encoding) + 2)
        found = list(walk(encoding + after, 0, len(encoding) + 1, frozenset({code})))
        assert found == [(instruction, 0, len(encoding))]


@pytest.mark.parametrize("code", [code for code in TABLE if code > 0xFF], ids=hex)
def test_overlong_opcodes(code: int) -> None:
    instruction = TABLE[code]
    head = overlong(instruction)
    tail = encodings(instruction)[0][len(instruction.encoding) :]
    cursor = Cursor(head + tail)
    assert read_instruction(cursor) is instruction
    assert cursor.at_end
    code_bytes = b"\x01" + head + tail + b"\x01"
    assert list(walk(code_bytes, 0, len(code_bytes), frozenset({code}))) == [(instruction, 1, len(code_bytes) - 1)]
    assert list(walk(code_bytes, 0, len(code_bytes), frozenset({Op.CALL}))) == []


@pytest.mark.parametrize("code", TABLE, ids=hex)
def test_strides_never_step_over_a_stop_or_past_the_end(code: int) -> None:
    instruction = TABLE[code]
    stop = stride(frozenset({code}))
    everything = stride(frozenset())
    for encoding in encodings(instruction):
        assert stop(another(code) + encoding, 0, len(encoding) + 1) == 1
        for end in range(len(encoding)):
            assert everything(encoding + b"\0" * 20, 0, end) == 0


def test_a_long_run_is_walked_to_its_end() -> None:
    code = b"\x20\x00\x1a" * 20_000 + b"\x10\x05" + b"\x01" * 9_000 + b"\x10\x85\x01"
    found = [(at, after) for _, at, after in walk(code, 0, len(code), frozenset({Op.CALL}))]
    assert found == [(60_000, 60_002), (69_002, 69_005)]


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 2**31 - 1, 2**32 - 1])
def test_unsigned_numbers(value: int) -> None:
    assert Cursor(encode_unsigned(value)).u32() == value


@pytest.mark.parametrize("value", [0, 1, -1, 63, 64, -64, -65, 2**31 - 1, -(2**31)])
def test_signed_numbers(value: int) -> None:
    assert Cursor(encode_signed(value)).s32() == value
    assert Cursor(encode_signed(value)).s64() == value


def test_the_table_is_complete() -> None:
    """Counts by prefix. Without one: 172 of the first version, 5 sign extension, 6 reference types, 2 tail calls, 3
    exceptions, 5 legacy exceptions, 5 function references, 1 GC. 0xFD: 236 SIMD, 20 relaxed."""
    counts = {prefix: sum(1 for code in TABLE if code >> 16 == prefix) for prefix in (0, 0xFB, 0xFC, 0xFD, 0xFE)}
    assert counts == {0: 199, 0xFB: 31, 0xFC: 22, 0xFD: 256, 0xFE: 67}
