"""Numbers on their way into wasm, as the contract promises: for every adapter."""

from __future__ import annotations

import ctypes

from ..wasm.types import ValueType

_HALVES = {ValueType.I32: 1 << 31, ValueType.I64: 1 << 63}


def wrap(kind: ValueType, value: object) -> int | float:
    """A number as its type holds it: integers of any size are cut to the width of the type, signed; an ``f32`` is
    rounded to the nearest, and what is too large for it is infinite.

    Raises:
        TypeError: It is not a number, or not one of that kind.
    """
    half = _HALVES.get(kind)
    if half is None:
        if not isinstance(value, (int, float)):
            raise TypeError(f"{kind} expected, got {type(value).__name__}")
        return ctypes.c_float(value).value if kind is ValueType.F32 else float(value)
    if not isinstance(value, int):
        raise TypeError(f"{kind} expected, got {type(value).__name__}")
    if -half <= value < half:
        return value
    return ((value + half) & (2 * half - 1)) - half


__all__ = ["wrap"]
