"""Reading the primitive pieces of a binary module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from extism_engines.errors import InvalidModuleError, UnsupportedFeatureError
from extism_engines.wasm.types import Limits, ValueType

_T = TypeVar("_T")

_VALUE_TYPES = {
    0x7F: ValueType.I32,
    0x7E: ValueType.I64,
    0x7D: ValueType.F32,
    0x7C: ValueType.F64,
    0x70: ValueType.FUNCREF,
    0x6F: ValueType.EXTERNREF,
}

REFERENCES = frozenset({ValueType.FUNCREF, ValueType.EXTERNREF})


class Cursor:
    """A position in some bytes, up to an end that it never passes."""

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    def fail(self, message: str) -> InvalidModuleError:
        return InvalidModuleError(f"{message} (at byte {self.position:#x})")

    @property
    def at_end(self) -> bool:
        return self.position >= self.end

    def take(self, count: int) -> bytes:
        start = self.position
        if start + count > self.end:
            raise self.fail("unexpected end")
        self.position = start + count
        return self.data[start : self.position]

    def part(self, count: int) -> Cursor:
        """A cursor over the next bytes alone, which this one skips."""
        start = self.position
        self.take(count)
        return Cursor(self.data, start, self.position)

    def byte(self) -> int:
        return self.take(1)[0]

    def peek(self) -> int:
        if self.at_end:
            raise self.fail("unexpected end")
        return self.data[self.position]

    def _leb(self, bits: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, shift
            if shift >= bits:
                raise self.fail("integer representation too long")

    def unsigned(self, bits: int = 32) -> int:
        value, _ = self._leb(bits)
        if value >> bits:
            raise self.fail("integer too large")
        return value

    def signed(self, bits: int) -> int:
        value, width = self._leb(bits)
        sign = 1 << width - 1
        value = (value ^ sign) - sign
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise self.fail("integer too large")
        return value

    def name(self) -> str:
        try:
            return self.take(self.unsigned()).decode()
        except UnicodeDecodeError as error:
            raise self.fail("malformed UTF-8 encoding") from error

    def many(self, item: Callable[[], _T]) -> list[_T]:
        """A vector: its length, then its items."""
        return [item() for _ in range(self.unsigned())]

    def value_type(self) -> ValueType:
        code = self.byte()
        if code in _VALUE_TYPES:
            return _VALUE_TYPES[code]
        if code == 0x7B:
            raise UnsupportedFeatureError("the fake engine has no v128 (simd)")
        if code in range(0x63, 0x75):
            raise UnsupportedFeatureError(f"the fake engine has no reference type {code:#04x} (gc)")
        raise self.fail(f"malformed value type {code:#04x}")

    def reference_type(self) -> ValueType:
        kind = self.value_type()
        if kind not in REFERENCES:
            raise self.fail("malformed reference type")
        return kind

    def limits(self, ceiling: int) -> Limits:
        flags = self.byte()
        if flags in (2, 3):
            raise UnsupportedFeatureError("the fake engine has no shared memory (threads)")
        if flags in (4, 5, 6, 7):
            raise UnsupportedFeatureError("the fake engine has no 64-bit memory (memory64)")
        if flags > 7:
            raise self.fail("malformed limits flags")
        minimum = self.unsigned()
        maximum = self.unsigned() if flags else None
        if minimum > ceiling or (maximum is not None and not minimum <= maximum <= ceiling):
            raise self.fail("size minimum must not be greater than maximum, nor either greater than the ceiling")
        return Limits(minimum, maximum)
