"""Walking over instructions: one at a time by the table, or in long strides by regular expression.

The table in :mod:`~extism_engines.wasm.opcodes` is the one description of the instruction set. :func:`read_instruction`
follows it literally, over-long encodings included.
steps over any number of uninteresting instructions at the speed of C; what the expression does not match, an
over-long opcode say, is left to :func:`read_instruction`, so the two never disagree.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import MalformedModuleError, UnsupportedFeatureError
from .binary import Cursor
from .opcodes import PREFIXES, Immediate, Instruction, Op, instruction_set

# -- one instruction ----------------------------------------------------------------------------------


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
        raw = " ".join(f"{byte:02x}" for byte in cursor.data[at : cursor.pos])
        raise UnsupportedFeatureError(f"unknown opcode {raw} (at byte {at:#x})")
    for immediate in instruction.immediates:
        _SKIP[immediate](cursor)
    return instruction


def skip_constant_expression(cursor: Cursor) -> None:
    """Steps over a constant expression with its ``end``.

    Raises:
        MalformedModuleError: It is cut short, or has an instruction that no constant expression may have.
    """
    while True:
        at = cursor.pos
        try:
            instruction = read_instruction(cursor)
        except UnsupportedFeatureError as error:
            raise MalformedModuleError(str(error)) from None
        if instruction.code == Op.END:
            return
        if instruction.effect is None and instruction.code not in (Op.STRUCT_NEW, Op.ARRAY_NEW_FIXED):
            raise cursor.fail("a control instruction in a constant expression", at)


def _skip_memarg(cursor: Cursor) -> None:
    if cursor.u32() & 0x40:
        cursor.u32()
    cursor.u64()


def _skip_block_type(cursor: Cursor) -> None:
    if cursor.data[cursor.pos : cursor.pos + 1] in (b"\x63", b"\x64"):
        cursor.skip(1)
    cursor.s33()


def _skip_value_types(cursor: Cursor) -> None:
    for _ in range(cursor.count()):
        _skip_block_type(cursor)


def _skip_labels(cursor: Cursor) -> None:
    for _ in range(cursor.count() + 1):
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
