"""Value types of host functions, as the official SDK spells them."""

from __future__ import annotations

import ctypes
import enum
import operator
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

    def __init__(self, t: ValType, v: Any) -> None:
        self.t = t
        self.value = v

    def __repr__(self) -> str:
        return f"Val({self.t}, {self.value})"

    def _assign(self, v: Any) -> None:
        """Sets the value, for programs that know this method of the official SDK."""
        self.value = v


def type_name(kind: ValType) -> str:
    """A type as WebAssembly calls it: the enumeration's own name for ``I64`` is ``PTR``."""
    return "I64" if kind is ValType.I64 else kind.name


def check_number(kind: ValType, value: Any) -> int | float:
    """A result of a host function as a number of its type. An integer may be of any size: it wraps on its way out.

    Whatever says that it is an integer (``__index__``) or a number (``__float__``) counts, such as NumPy's.

    Raises:
        TypeError: It is not a number, or not an integer where one is wanted.
        OverflowError: It is an integer that is larger than any float.
    """
    if kind in (ValType.I32, ValType.I64):
        if not hasattr(value, "__index__"):
            raise TypeError(f"an int is expected for a result of type {type_name(kind)}, got {type(value).__name__}")
        return operator.index(value)
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
        raise TypeError(f"a float is expected for a result of type {type_name(kind)}, got {type(value).__name__}")
    # What is too large for 32 bits becomes infinite, as when wasm itself rounds to them.
    number = float(value)
    return ctypes.c_float(number).value if kind is ValType.F32 else number


WASM_TYPES = {
    ValType.I32: wasm.ValueType.I32,
    ValType.I64: wasm.ValueType.I64,
    ValType.F32: wasm.ValueType.F32,
    ValType.F64: wasm.ValueType.F64,
}
"""The types that host functions can have; others cannot pass between Python and a guest."""
