"""The numeric instructions: what each takes, what it gives, and a Python function that does it.

Integers are unsigned Python ints of their width, booleans 0 or 1. An f32 is the Python float of the same value.
Its NaNs keep their bits in the upper part of the double's payload, so that loads and reinterpretations lose nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from ctypes import c_float
from typing import Any

import attrs

from extism_engines.errors import TrapError, TrapKind
from extism_engines.wasm.types import ValueType

I32, I64, F32, F64 = ValueType.I32, ValueType.I64, ValueType.F32, ValueType.F64

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")


@attrs.frozen
class Operation:
    """A numeric instruction of one or two operands."""

    name: str
    params: tuple[ValueType, ...]
    result: ValueType
    function: Callable[..., Any]


# -- floats and their bits -----------------------------------------------------------------------------


def f64_from_bits(bits: int) -> float:
    value: float = _DOUBLE.unpack(_U64.pack(bits))[0]
    return value


def f64_to_bits(value: float) -> int:
    bits: int = _U64.unpack(_DOUBLE.pack(value))[0]
    return bits


def f32_from_bits(bits: int) -> float:
    if bits & 0x7FFF_FFFF > 0x7F80_0000:  # the CPU's own widening would make a signalling NaN quiet
        return f64_from_bits((bits >> 31) << 63 | 0x7FF << 52 | (bits & 0x7F_FFFF) << 29)
    value: float = _FLOAT.unpack(_U32.pack(bits))[0]
    return value


def f32_to_bits(value: float) -> int:
    if value != value:
        wide = f64_to_bits(value)
        return (wide >> 63) << 31 | 0xFF << 23 | (wide >> 29) & 0x7F_FFFF
    bits: int = _U32.unpack(_FLOAT.pack(value))[0]
    return bits


def round_to_f32(value: float) -> float:
    """The nearest f32; too large a value becomes an infinity, a NaN a quiet one."""
    return c_float(value).value


# -- integers ------------------------------------------------------------------------------------------


def to_signed(value: int, bits: int) -> int:
    """The signed reading of an unsigned integer of that many bits."""
    sign = 1 << bits - 1
    return (value ^ sign) - sign


def _integer_comparisons(bits: int) -> list[tuple[str, Callable[..., int]]]:
    sign = 1 << bits - 1  # flipping the sign bit turns signed order into unsigned order
    return [
        ("eqz", lambda a: 0 if a else 1),
        ("eq", lambda a, b: 1 if a == b else 0),
        ("ne", lambda a, b: 1 if a != b else 0),
        ("lt_s", lambda a, b: 1 if a ^ sign < b ^ sign else 0),
        ("lt_u", lambda a, b: 1 if a < b else 0),
        ("gt_s", lambda a, b: 1 if a ^ sign > b ^ sign else 0),
        ("gt_u", lambda a, b: 1 if a > b else 0),
        ("le_s", lambda a, b: 1 if a ^ sign <= b ^ sign else 0),
        ("le_u", lambda a, b: 1 if a <= b else 0),
        ("ge_s", lambda a, b: 1 if a ^ sign >= b ^ sign else 0),
        ("ge_u", lambda a, b: 1 if a >= b else 0),
    ]


def _integer_arithmetic(bits: int) -> list[tuple[str, Callable[..., int]]]:
    mask = (1 << bits) - 1
    sign = 1 << bits - 1
    count_mask = bits - 1

    def div_u(a: int, b: int) -> int:
        if not b:
            raise TrapError(kind=TrapKind.INTEGER_DIVIDE_BY_ZERO)
        return a // b

    def rem_u(a: int, b: int) -> int:
        if not b:
            raise TrapError(kind=TrapKind.INTEGER_DIVIDE_BY_ZERO)
        return a % b

    def div_s(a: int, b: int) -> int:
        if not b:
            raise TrapError(kind=TrapKind.INTEGER_DIVIDE_BY_ZERO)
        quotient = abs((a ^ sign) - sign) // abs((b ^ sign) - sign)
        if (a ^ b) & sign:
            return -quotient & mask
        if quotient == sign:
            raise TrapError(kind=TrapKind.INTEGER_OVERFLOW)
        return quotient

    def rem_s(a: int, b: int) -> int:
        if not b:
            raise TrapError(kind=TrapKind.INTEGER_DIVIDE_BY_ZERO)
        rest = abs((a ^ sign) - sign) % abs((b ^ sign) - sign)
        return -rest & mask if a & sign else rest

    def rotl(a: int, b: int) -> int:
        b &= count_mask
        return (a << b | a >> bits - b) & mask

    return [
        ("clz", lambda a: bits - a.bit_length()),
        ("ctz", lambda a: (a & -a).bit_length() - 1 if a else bits),
        ("popcnt", lambda a: a.bit_count()),
        ("add", lambda a, b: a + b & mask),
        ("sub", lambda a, b: a - b & mask),
        ("mul", lambda a, b: a * b & mask),
        ("div_s", div_s),
        ("div_u", div_u),
        ("rem_s", rem_s),
        ("rem_u", rem_u),
        ("and", lambda a, b: a & b),
        ("or", lambda a, b: a | b),
        ("xor", lambda a, b: a ^ b),
        ("shl", lambda a, b: a << (b & count_mask) & mask),
        ("shr_s", lambda a, b: (a ^ sign) - sign >> (b & count_mask) & mask),
        ("shr_u", lambda a, b: a >> (b & count_mask)),
        ("rotl", rotl),
        ("rotr", lambda a, b: rotl(a, -b)),
    ]


# -- floats --------------------------------------------------------------------------------------------

_FLOAT_COMPARISONS: tuple[tuple[str, Callable[..., int]], ...] = (
    ("eq", lambda a, b: 1 if a == b else 0),
    ("ne", lambda a, b: 1 if a != b else 0),
    ("lt", lambda a, b: 1 if a < b else 0),
    ("gt", lambda a, b: 1 if a > b else 0),
    ("le", lambda a, b: 1 if a <= b else 0),
    ("ge", lambda a, b: 1 if a >= b else 0),
)


def _rounding(function: Callable[[float], int]) -> Callable[[float], float]:
    def rounded(value: float) -> float:
        if value - value != 0:  # an infinity stays, a NaN becomes quiet
            return value + value
        return math.copysign(float(function(value)), value)  # -0.3 becomes -0.0

    return rounded


def _sqrt(value: float) -> float:
    return math.sqrt(value) if value >= 0 else value if value == 0 else math.nan


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    if a != a or a == 0:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _minimum(a: float, b: float) -> float:
    if a != a or b != b:
        return a + b
    if a == b:
        return a if math.copysign(1.0, a) < 0 else b
    return a if a < b else b


def _maximum(a: float, b: float) -> float:
    return -_minimum(-a, -b)


def _float_arithmetic(rounded: bool) -> list[tuple[str, Callable[..., float]]]:
    # A double holds more than twice the digits of an f32, so rounding the double's result once more is exact.
    fit: Callable[[float], float] = round_to_f32 if rounded else float
    return [
        ("abs", math.fabs),
        ("neg", lambda a: -a),
        ("ceil", _rounding(math.ceil)),
        ("floor", _rounding(math.floor)),
        ("trunc", _rounding(math.trunc)),
        ("nearest", _rounding(round)),
        ("sqrt", lambda a: fit(_sqrt(a))),
        ("add", lambda a, b: fit(a + b)),
        ("sub", lambda a, b: fit(a - b)),
        ("mul", lambda a, b: fit(a * b)),
        ("div", lambda a, b: fit(_divide(a, b))),
        ("min", _minimum),
        ("max", _maximum),
        ("copysign", math.copysign),
    ]


# -- conversions ---------------------------------------------------------------------------------------


def _truncation(bits: int, signed: bool, saturate: bool) -> Callable[[float], int]:
    mask = (1 << bits) - 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, mask)

    def truncate(value: float) -> int:
        if value != value:
            if saturate:
                return 0
            raise TrapError(kind=TrapKind.BAD_CONVERSION_TO_INTEGER)
        whole = value if math.isinf(value) else math.trunc(value)
        if low <= whole <= high:
            return int(whole) & mask
        if not saturate:
            raise TrapError(kind=TrapKind.INTEGER_OVERFLOW)
        return (low if value < 0 else high) & mask

    return truncate


def _int_to_f32(value: int) -> float:
    size = abs(value)
    if size >> 53:  # keep the double from rounding: only whether any dropped bit was set matters
        size = (size >> 11 | (size & 0x7FF != 0)) << 11
    return round_to_f32(float(-size if value < 0 else size))


def _signed_first(bits: int, convert: Callable[[int], float]) -> Callable[[int], float]:
    return lambda a: convert(to_signed(a, bits))


def _sign_extension(narrow: int, wide: int) -> Callable[[int], int]:
    narrow_mask, mask, sign = (1 << narrow) - 1, (1 << wide) - 1, 1 << narrow - 1
    return lambda a: ((a & narrow_mask) ^ sign) - sign & mask


def _conversions() -> Iterator[tuple[int, Operation]]:
    def row(opcode: int, name: str, param: ValueType, function: Callable[[Any], Any]) -> tuple[int, Operation]:
        return opcode, Operation(name, (param,), ValueType(name[:3]), function)

    def truncations(opcode: int, target: ValueType, bits: int, saturate: bool) -> Iterator[tuple[int, Operation]]:
        sat = "_sat" if saturate else ""
        for source, suffix in ((F32, "s"), (F32, "u"), (F64, "s"), (F64, "u")):
            name = f"{target}.trunc{sat}_{source}_{suffix}"
            yield row(opcode, name, source, _truncation(bits, suffix == "s", saturate))
            opcode += 1

    def conversions(opcode: int, target: ValueType, fit: Callable[[int], float]) -> Iterator[tuple[int, Operation]]:
        for source, bits in ((I32, 32), (I64, 64)):
            yield row(opcode, f"{target}.convert_{source}_s", source, _signed_first(bits, fit))
            yield row(opcode + 1, f"{target}.convert_{source}_u", source, fit)
            opcode += 2

    yield row(0xA7, "i32.wrap_i64", I64, lambda a: a & 0xFFFF_FFFF)
    yield from truncations(0xA8, I32, 32, saturate=False)
    yield row(0xAC, "i64.extend_i32_s", I32, _sign_extension(32, 64))
    yield row(0xAD, "i64.extend_i32_u", I32, lambda a: a)
    yield from truncations(0xAE, I64, 64, saturate=False)
    yield from conversions(0xB2, F32, _int_to_f32)
    yield row(0xB6, "f32.demote_f64", F64, round_to_f32)
    yield from conversions(0xB7, F64, float)
    yield row(0xBB, "f64.promote_f32", F32, lambda a: a if a == a else a + a)
    yield row(0xBC, "i32.reinterpret_f32", F32, f32_to_bits)
    yield row(0xBD, "i64.reinterpret_f64", F64, f64_to_bits)
    yield row(0xBE, "f32.reinterpret_i32", I32, f32_from_bits)
    yield row(0xBF, "f64.reinterpret_i64", I64, f64_from_bits)
    yield row(0xC0, "i32.extend8_s", I32, _sign_extension(8, 32))
    yield row(0xC1, "i32.extend16_s", I32, _sign_extension(16, 32))
    yield row(0xC2, "i64.extend8_s", I64, _sign_extension(8, 64))
    yield row(0xC3, "i64.extend16_s", I64, _sign_extension(16, 64))
    yield row(0xC4, "i64.extend32_s", I64, _sign_extension(32, 64))
    yield from truncations(0xFC00, I32, 32, saturate=True)
    yield from truncations(0xFC04, I64, 64, saturate=True)


_UNARY = frozenset(("eqz", "clz", "ctz", "popcnt", "abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"))


def _all_operations() -> Iterator[tuple[int, Operation]]:
    runs: list[tuple[int, ValueType, ValueType, Any]] = [
        (0x45, I32, I32, _integer_comparisons(32)),
        (0x50, I64, I32, _integer_comparisons(64)),
        (0x5B, F32, I32, _FLOAT_COMPARISONS),
        (0x61, F64, I32, _FLOAT_COMPARISONS),
        (0x67, I32, I32, _integer_arithmetic(32)),
        (0x79, I64, I64, _integer_arithmetic(64)),
        (0x8B, F32, F32, _float_arithmetic(rounded=True)),
        (0x99, F64, F64, _float_arithmetic(rounded=False)),
    ]
    for first, operand, result, rows in runs:
        for opcode, (name, function) in enumerate(rows, first):
            params = (operand,) if name in _UNARY else (operand, operand)
            yield opcode, Operation(f"{operand}.{name}", params, result, function)
    yield from _conversions()


OPERATIONS: dict[int, Operation] = dict(_all_operations())
"""By opcode; those behind the prefix byte 0xFC have the number 0xFC00 + n."""
