"""Value types of host functions, as the official SDK spells them."""

from __future__ import annotations

import ctypes
import enum
from typing import Any

from .. import wasm


class ValType(enum.Enum):
    """Type of a parameter or result. ``PTR`` is a handle of a block, and the same as ``I64``."""

    I32 = 0
    PTR = 1
    I64 = 1  # noqa: PIE796 - the official SDK has both names
    F32 = 2
    F64 = 3
    V128 = 4
    FUNC_REF = 5
    EXTERN_REF = 6


class Val:
    """A value with its type, as explicit host functions take and give them. Integers arrive signed."""

    __slots__ = ("t", "value")

    def __init__(self, t: ValType, v: Any) -> None:
        self.t = t
        self.value = v

    def __repr__(self) -> str:
        return f"Val({self.t}, {self.value})"


def check_number(kind: ValType, value: Any) -> int | float:
    """A result of a host function as a number of its type. An integer may be of any size: it wraps on its way out.

    Raises:
        TypeError: It is not a number, or not an integer where one is wanted.
        OverflowError: It is an integer that is larger than any float.
    """
    if kind in (ValType.I32, ValType.I64):
        if not isinstance(value, int):
            raise TypeError(f"an int is expected for a result of type {kind.name}, got {type(value).__name__}")
        return value
    if not isinstance(value, (int, float)):
        raise TypeError(f"a float is expected for a result of type {kind.name}, got {type(value).__name__}")
    # What is too large for 32 bits becomes infinite, as when wasm itself rounds to them.
    return ctypes.c_float(value).value if kind is ValType.F32 else float(value)


WASM_TYPES = {
    ValType.I32: wasm.ValueType.I32,
    ValType.I64: wasm.ValueType.I64,
    ValType.F32: wasm.ValueType.F32,
    ValType.F64: wasm.ValueType.F64,
}
"""The types that host functions can have; others cannot pass between Python and a guest."""
