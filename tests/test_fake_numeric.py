"""Every numeric instruction of the fake engine gives, bit for bit, what wasmtime gives."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator, Sequence
from itertools import product

import pytest

from extism_engines.wasm.types import ValueType

from .fakes.both import Both
from .fakes.numeric import F32, F64, I32, I64, OPERATIONS, Operation


def _around(*values: int) -> Iterator[int]:
    for value in values:
        yield from (value - 1, value, value + 1)


def _float_bits(*values: float) -> Iterator[int]:
    for value in values:
        yield from struct.unpack("<QQ", struct.pack("<dd", value, -value))


def _both_signs(sign: int, *bits: int) -> Iterator[int]:
    for value in bits:
        yield from (value, value | sign)


OPERANDS: dict[ValueType, list[int]] = {
    I32: [
        *(value & 0xFFFF_FFFF for value in _around(0, 31, 0x80, 0x8000, 1 << 24, 1 << 31)),
        *(0xFF, 0xFFFF, 0x12345678, 0xFEDCBA98, 0xAAAA_AAAA, 33),
    ],
    I64: [
        *(value & (1 << 64) - 1 for value in _around(0, 63, 0x80, 0x8000, 1 << 24, 1 << 31, 1 << 32, 1 << 53, 1 << 63)),
        # Halfway between two f32 and a little beside, at a distance that a double cannot see.
        *(0x7FFF_FF40_0000_0001, 0x8000_0080_0000_0000, 0x8000_0080_0000_0001, 0x8000_0180_0000_0000),
        *(0xFF, 0x1234_5678_9ABC_DEF0, 0xFEDC_BA98_7654_3210, 0x20_0000_2000_0001, 0x7FFF_FFBF_FFFF_FFFF),
    ],
    F32: [
        # zero, subnormal, least normal, one, halves, around 2**23, 2**31, 2**32, 2**63, 2**64, greatest, infinity
        *_both_signs(1 << 31, 0, 1, 0x7F_FFFF, 0x80_0000, 0x3F80_0000, 0x3F00_0000, 0x3F7F_FFFF, 0x3EFF_FFFF),
        *_both_signs(1 << 31, 0x3FC0_0000, 0x4020_0000, 0x4AFF_FFFF, 0x4B00_0001, 0x4EFF_FFFF, 0x4F00_0000),
        *_both_signs(1 << 31, 0x4F00_0001, 0x4F7F_FFFF, 0x4F80_0000, 0x5EFF_FFFF, 0x5F00_0000, 0x5F00_0001),
        *_both_signs(1 << 31, 0x5F7F_FFFF, 0x5F80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x42F6_E979, 0x3EAA_AAAB),
        # NaNs: canonical, with a payload, signalling
        *_both_signs(1 << 31, 0x7FC0_0000, 0x7FC1_2345, 0x7FA0_0000, 0x7F80_0001),
    ],
    F64: [
        *_float_bits(0.0, 5e-324, 2.2250738585072014e-308, 0.3, 0.5, 0.9999999999999999, 1.0, 1.5, 2.5, 123.456),
        *_float_bits(2147483647.0, 2147483647.9, 2147483648.0, 2147483648.9, 2147483649.0, 4294967295.9, 4294967296.0),
        *_float_bits(4503599627370495.5, 2.0**53, 9223372036854774784.0, 2.0**63, 9223372036854777856.0, 2.0**64),
        *_float_bits(18446744073709549568.0, 1.7976931348623157e308, math.inf),
        # where an f32 overflows, and where it vanishes
        *_float_bits(3.4028235677973362e38, 3.4028235677973366e38, 7.006492321624085e-46, 7.006492321624087e-46, 1e-46),
        *_both_signs(1 << 63, 0x7FF8 << 48, 0x7FF8_1234_5678_9ABC, 0x7FF4 << 48, 0x7FF0_0000_0000_0001),
    ],
}

# Second operands of floats: all pairs would take seconds.
PARTNERS: dict[ValueType, list[int]] = {
    I32: OPERANDS[I32],
    I64: OPERANDS[I64],
    F32: [*_both_signs(1 << 31, 0, 1, 0x3F80_0000, 0x3EAA_AAAB, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0000, 0x7F80_0001)],
    F64: [
        *_float_bits(0.0, 5e-324, 1.0, 0.3, 1.7976931348623157e308, math.inf),
        *_both_signs(1 << 63, 0x7FF8 << 48, 0x7FF0_0000_0000_0001),
    ],
}

_BITS_OF = {F32: I32, F64: I64}
_NAN_ABOVE = {F32: 0x7F80_0000, F64: 0x7FF0 << 48}
_QUIET = {F32: 1 << 22, F64: 1 << 51}
_COPIES_BITS = ("abs", "neg", "copysign", "reinterpret")


def _numeric_text(operation: Operation) -> str:
    """A function that does it on bits, so that no float passes through Python."""
    params, operands = "", ""
    for index, kind in enumerate(operation.params):
        bits = _BITS_OF.get(kind)
        params += f" {bits or kind}"
        operand = f"(local.get {index})"
        operands += f" ({kind}.reinterpret_{bits} {operand})" if bits else f" {operand}"
    body = f"({operation.name}{operands})"
    result = _BITS_OF.get(operation.result)
    if result:
        body = f"({result}.reinterpret_{operation.result} {body})"
    return f'(func (export "{operation.name}") (param{params}) (result {result or operation.result}) {body})'


@pytest.fixture(scope="module")
def numeric() -> Both:
    return Both("(module " + "\n".join(map(_numeric_text, OPERATIONS.values())) + ")")


def _random_pairs(kinds: Sequence[ValueType]) -> Iterator[tuple[int, ...]]:
    chance = random.Random(7)
    for _ in range(100):
        yield tuple(chance.getrandbits(64 if kind in (I64, F64) else 32) for kind in kinds)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_a_numeric_instruction(operation: Operation, numeric: Both) -> None:
    reference = numeric.reference.function(operation.name)
    fake = numeric.fake.function(operation.name)
    kind = operation.result
    tables = [table[param] for table, param in zip((OPERANDS, PARTNERS), operation.params, strict=False)]
    for args in [*product(*tables), *_random_pairs(operation.params)]:
        expected, actual = reference(*args), fake(*args)
        if actual != expected:
            shown = operation.name, [hex(arg) for arg in args], actual, expected
            assert kind in _BITS_OF and not operation.name[4:].startswith(_COPIES_BITS), shown
            for (bits,) in (expected, actual):  # two NaNs, both quiet
                assert bits & (_NAN_ABOVE[kind] | _QUIET[kind]) == _NAN_ABOVE[kind] | _QUIET[kind], shown


def test_no_numeric_instruction_is_missing() -> None:
    assert set(OPERATIONS) == {*range(0x45, 0xC5), *range(0xFC00, 0xFC08)}
