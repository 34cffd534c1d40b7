"""The interpreter's own instructions, and tables of the opcodes that differ in numbers only."""

from __future__ import annotations

from typing import Any

from extism_engines.wasm.types import ValueType

from .numeric import F32, F64, I32, I64

# Commonest first: the interpreter tries them in this order.
(LOCAL_GET, CONST, BINARY, LOCAL_SET, LOCAL_TEE, LOAD_INT, STORE_INT, UNARY, BR_IF, BR, BR_UNLESS, CALL) = range(12)
(RETURN, GLOBAL_GET, GLOBAL_SET, DROP, SELECT, BR_TABLE, CALL_INDIRECT) = range(12, 19)
(LOAD_FLOAT, STORE_FLOAT, OTHER, UNREACHABLE) = range(19, 23)

Code = tuple[int, Any, Any, Any]

Label = list[int]
"""Where a branch goes: the next instruction, how many operands it keeps, and the height of the stack below them.
A list, because a forward branch is written before its target is known."""

# By opcode: the operand's type, and how it lies in memory as a letter of the struct module.
LOADS: dict[int, tuple[ValueType, str]] = dict(
    enumerate(
        [(I32, "I"), (I64, "Q"), (F32, "I"), (F64, "d")]
        + [(I32, form) for form in "bBhH"]
        + [(I64, form) for form in "bBhHiI"],
        0x28,
    )
)
STORES: dict[int, tuple[ValueType, str]] = dict(
    enumerate(
        [(I32, "I"), (I64, "Q"), (F32, "I"), (F64, "d"), (I32, "B"), (I32, "H"), (I64, "B"), (I64, "H"), (I64, "I")],
        0x36,
    )
)

CONSTANT = frozenset(
    {0x0B, 0x23, 0x41, 0x42, 0x43, 0x44, 0xD0, 0xD2, 0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E}  # the last six: extended-const
)

# The proposal that an opcode belongs to. A prefix byte stands for all that it begins.
LACKING = {
    **dict.fromkeys((0x08, 0x0A, 0x1F), "exceptions"),
    **dict.fromkeys((0x06, 0x07, 0x09, 0x18, 0x19), "legacy-exceptions"),
    **dict.fromkeys((0x12, 0x13), "tail-call"),
    **dict.fromkeys((0x14, 0x15, 0xD4, 0xD5, 0xD6), "function-references"),
    **dict.fromkeys((0xD3, 0xFB), "gc"),
    **dict.fromkeys((0xFC13, 0xFC14, 0xFC15, 0xFC16), "wide-arithmetic"),
    0xFD: "simd",
    0xFE: "threads",
}
