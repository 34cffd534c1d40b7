"""Walking over instructions: one at a time by the table, or in long strides by regular expression.

The table in :mod:`~extism_engines.wasm.opcodes` is the one description of the instruction set.
:func:`read_instruction` follows it literally, over-long encodings included. :func:`stride` compiles part of it into a
regular expression that steps over any number of uninteresting instructions at the speed of C; what the expression does
not match (an over-long opcode, ``br_table``) is left to :func:`read_instruction`, so the two never disagree.
:func:`walk` joins both: it is what a rewriter loops over.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import cache

import attrs

from ..errors import MalformedModuleError, UnsupportedFeatureError
from .binary import Cursor
from .opcodes import PREFIXES, Immediate, Instruction, Op, instruction_set

# -- function bodies -----------------------------------------------------------------------------------


@attrs.frozen
class Body:
    """Where one function lies in the code section; offsets in the module.

    Attributes:
        locals: Where the declarations of its locals begin.
        end: Where it ends.
    """

    locals: int
    end: int


def read_bodies(cursor: Cursor) -> Iterator[Body]:
    """The bodies in a code section, in order.

    Args:
        cursor: At the start of the section's content.

    Raises:
        MalformedModuleError: A body reaches past the end, or bytes are left over.
    """
    for _ in range(cursor.count()):
        size = cursor.u32()
        start = cursor.pos
        cursor.skip(size)
        yield Body(start, cursor.pos)
    if not cursor.at_end:
        raise cursor.fail(f"{cursor.remaining} bytes too many in the code section")


# -- one instruction -----------------------------------------------------------------------------------


def read_instruction(cursor: Cursor) -> Instruction:
    """Reads the instruction at the cursor and steps over its immediates.

    Raises:
        MalformedModuleError: It is cut short, or an immediate is malformed.
        UnsupportedFeatureError: The opcode is unknown; the text names it in hexadecimal, and its offset.
    """
    at = cursor.pos
    code = cursor.byte()
    if code in PREFIXES:
        code = code << 16 | cursor.u32()
    instruction = instruction_set().get(code)
    if instruction is None:
        raise UnsupportedFeatureError(f"unknown opcode {cursor.data[at : cursor.pos].hex(' ')} (at byte {at:#x})")
    for immediate in instruction.immediates:
        _SKIP[immediate](cursor)
    return instruction


def skip_constant_expression(cursor: Cursor) -> None:
    """Steps over a constant expression with its ``end``.

    Raises:
        MalformedModuleError: It is cut short, or has an instruction that no constant expression may have.
    """
    step = stride(_NOT_CONSTANT)
    while True:
        at = cursor.pos = step(cursor.data, cursor.pos, cursor.end)
        try:
            instruction = read_instruction(cursor)
        except UnsupportedFeatureError as error:
            raise MalformedModuleError(str(error)) from None
        if instruction.code == Op.END:
            return
        if instruction.code in _NOT_CONSTANT:
            raise cursor.fail("a block in a constant expression", at)


_NOT_CONSTANT = frozenset({Op.BLOCK, Op.LOOP, Op.IF, Op.TRY, Op.TRY_TABLE, Op.END})


def _skip_memarg(cursor: Cursor) -> None:
    if cursor.u32() & 0x40:
        cursor.u32()
    cursor.u64()


def _skip_block_type(cursor: Cursor) -> None:
    if cursor.data[cursor.pos : cursor.pos + 1] in (b"\x63", b"\x64"):  # (ref null? ht)
        cursor.skip(1)
    cursor.s33()


def _skip_value_types(cursor: Cursor) -> None:
    for _ in range(cursor.count()):
        _skip_block_type(cursor)


def _skip_labels(cursor: Cursor) -> None:
    length = cursor.count() + 1
    if cursor.data[cursor.pos : cursor.pos + length].isascii():  # a byte each, which is nearly always so
        cursor.skip(length)
        return
    for _ in range(length):
        cursor.u32()


def _skip_catches(cursor: Cursor) -> None:
    for _ in range(cursor.count()):
        at = cursor.pos
        kind = cursor.byte()
        if kind > 3:
            raise cursor.fail(f"unknown catch clause {kind:#04x}", at)
        if kind < 2:  # catch and catch_ref name a tag
            cursor.u32()
        cursor.u32()


_SKIP: dict[Immediate, Callable[[Cursor], object]] = {
    Immediate.INDEX: Cursor.u32,
    Immediate.INTEGER: Cursor.s64,
    Immediate.MEMARG: _skip_memarg,
    Immediate.BLOCK_TYPE: _skip_block_type,
    Immediate.HEAP_TYPE: Cursor.s33,
    Immediate.VALUE_TYPES: _skip_value_types,
    Immediate.LABELS: _skip_labels,
    Immediate.CATCHES: _skip_catches,
    Immediate.BYTE: Cursor.byte,
    Immediate.BYTES_4: lambda cursor: cursor.skip(4),
    Immediate.BYTES_8: lambda cursor: cursor.skip(8),
    Immediate.BYTES_16: lambda cursor: cursor.skip(16),
}

# -- many instructions ---------------------------------------------------------------------------------

Stride = Callable[[bytes, int, int], int]
"""Given bytes, a position and the end: the position after the plain instructions there, which may be the same."""

ANY_BLOCK = rb"(?:[\x63\x64][\x80-\xff]{0,4}[\x00-\x7f]|(?![\x63\x64])[\x80-\xff]{0,4}[\x00-\x7f])"
"""Block types: all of them."""

VOID_BLOCK = rb"\x40"
"""Block types: none but that of a block without parameters and results."""

_LEB_32 = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_LEB_64 = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
# Bit 6 of the alignment says that a memory index follows.
_MEMARG = (
    rb"(?:(?:[\x00-\x3f]|[\x80-\xbf][\x80-\xff]{0,3}[\x00-\x7f])"
    rb"|(?:[\x40-\x7f]|[\xc0-\xff][\x80-\xff]{0,3}[\x00-\x7f])" + _LEB_32 + rb")" + _LEB_64
)
_IMMEDIATE_PATTERNS = {
    Immediate.INDEX: _LEB_32,
    Immediate.INTEGER: _LEB_64,
    Immediate.MEMARG: _MEMARG,
    Immediate.HEAP_TYPE: _LEB_32,
    Immediate.VALUE_TYPES: rb"\x01" + ANY_BLOCK,  # the only count in use; others are left to read_instruction
    Immediate.BYTE: rb".",
    Immediate.BYTES_4: rb".{4}",
    Immediate.BYTES_8: rb".{8}",
    Immediate.BYTES_16: rb".{16}",
}
# Matching begins with what is most frequent in compiled code: local.get, arithmetic, constants, loads.
_FREQUENT_FIRST = [(Immediate.INDEX,), (), (Immediate.INTEGER,), (Immediate.MEMARG,)]
# Possessive repetition needs no memory for backtracking. Before CPython 3.11 there is none, and before 3.11.5 it may
# end inside an alternative that did not match: there a bound keeps the memory small.
_REPEATED = rb")*+" if sys.version_info >= (3, 11, 5) else rb"){0,4000}"


@cache
def stride(stops: frozenset[int], block_types: bytes = ANY_BLOCK) -> Stride:
    """Compiles a way over everything but some instructions.

    Args:
        stops: Codes of the instructions to stop at.
        block_types: Pattern of the block types to step over.

    Returns:
        A function that may stop early (never late): before instructions whose length no regular expression can
        tell, before over-long opcodes, and before CPython 3.11.5 after some thousand instructions.
    """
    pattern = rb"(?:" + rb"|".join(_alternatives(stops, block_types)) + _REPEATED
    match = re.compile(pattern, re.DOTALL).match

    def step(code: bytes, start: int, end: int) -> int:
        found = match(code, start, end)
        return start if found is None else found.end()

    return step


def walk(code: bytes, start: int, end: int, stops: frozenset[int]) -> Iterator[tuple[Instruction, int, int]]:
    """The instructions of some kinds between two offsets, each with the offsets where it begins and ends.

    Args:
        code: What the offsets refer to.
        start: Where the first instruction begins.
        end: Where to stop.
        stops: Codes of the instructions that are wanted.

    Raises:
        MalformedModuleError, UnsupportedFeatureError: As for :func:`read_instruction`.
    """
    step = stride(stops)
    short = _short_encodings(stops)
    cursor = Cursor(code, start, end)
    position = start
    while True:
        at = step(code, position, end)
        if at >= end:
            return
        instruction = short.get(code[at])
        if instruction is not None and at + 1 < end and code[at + 1] < 0x80:
            position = at + 2
            yield instruction, at, position
            continue
        cursor.pos = at
        instruction = read_instruction(cursor)
        position = cursor.pos
        if instruction.code in stops:
            yield instruction, at, position


@cache
def _short_encodings(stops: frozenset[int]) -> dict[int, Instruction]:
    """Those of some instructions that mostly take two bytes: an opcode and a small index. The usual stops are calls
    and globals, and this saves half the time."""
    table = instruction_set()
    return {code: table[code] for code in stops if code < 0x100 and table[code].immediates == (Immediate.INDEX,)}


def opcode_class(codes: list[int]) -> bytes:
    """A character class of single bytes."""
    return rb"[" + b"".join(rb"\x%02x" % code for code in codes) + rb"]"


def immediates_pattern(immediates: tuple[Immediate, ...], block_types: bytes) -> bytes | None:
    """The pattern of what follows an opcode; ``None`` where no regular expression can tell its length."""
    parts = [
        block_types if immediate is Immediate.BLOCK_TYPE else _IMMEDIATE_PATTERNS.get(immediate)
        for immediate in immediates
    ]
    known = [part for part in parts if part is not None]
    return b"".join(known) if len(known) == len(parts) else None


def _alternatives(stops: frozenset[int], block_types: bytes) -> Iterator[bytes]:
    """A pattern per shape of immediates: first for the opcodes of one byte, then for each prefix."""
    shapes: dict[tuple[Immediate, ...], list[Instruction]] = {shape: [] for shape in _FREQUENT_FIRST}
    for instruction in instruction_set().values():
        if instruction.code not in stops:
            shapes.setdefault(instruction.immediates, []).append(instruction)
    patterns = {shape: immediates_pattern(shape, block_types) for shape in shapes}
    for shape, instructions in shapes.items():
        single = [instruction.code for instruction in instructions if instruction.code < 0x100]
        pattern = patterns[shape]
        if single and pattern is not None:
            yield opcode_class(single) + (pattern or rb"+")
    for shape, instructions in shapes.items():
        for prefix in sorted(PREFIXES):
            numbers = [i.encoding[1:] for i in instructions if i.code >> 16 == prefix]
            pattern = patterns[shape]
            if numbers and pattern is not None:
                yield rb"\x%02x" % prefix + _numbers_pattern(numbers) + pattern


def _numbers_pattern(numbers: list[bytes]) -> bytes:
    """Any of some numbers of opcodes, in their shortest encoding of one byte or two."""
    by_tail: dict[bytes, list[int]] = {}
    for number in numbers:
        by_tail.setdefault(number[1:], []).append(number[0])
    return rb"(?:" + rb"|".join(opcode_class(heads) + re.escape(tail) for tail, heads in by_tail.items()) + rb")"
