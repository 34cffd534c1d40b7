"""The grammar of the binary format below sections: LEB128 numbers, names, vectors.

:class:`Cursor` reads, never past its end, and raises :class:`~extism_engines.errors.MalformedModuleError` with the
byte offset of the fault for anything else than well-formed input. The functions write.
"""

from __future__ import annotations

from ..errors import MalformedModuleError


class Cursor:
    """A place in the bytes of a module, and the end that reading must respect.

    Positions are offsets in the whole module, so that faults can be found again.
    """

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0, end: int | None = None) -> None:
        """Args: the module; the offset to begin at; the offset to stop before (default: the end of the module)."""
        self.data = data
        self.pos = pos
        self.end = len(data) if end is None else end

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.pos >= self.end

    @property
    def remaining(self) -> int:
        """Bytes left."""
        return self.end - self.pos

    def fail(self, what: str, at: int | None = None) -> MalformedModuleError:
        """The error to raise for a fault at an offset (default: here)."""
        return malformed(what, self.pos if at is None else at)

    def byte(self) -> int:
        """One byte."""
        if self.pos >= self.end:
            raise self.fail("unexpected end")
        value = self.data[self.pos]
        self.pos += 1
        return value

    def take(self, length: int) -> bytes:
        """That many bytes."""
        start = self.pos
        self.skip(length)
        return self.data[start : self.pos]

    def skip(self, length: int) -> None:
        """Steps over that many bytes."""
        if length > self.end - self.pos:
            raise self.fail("unexpected end")
        self.pos += length

    def u32(self) -> int:
        """An unsigned LEB128 number of up to 32 bits."""
        if self.pos < self.end:
            value = self.data[self.pos]
            if value < 0x80:
                self.pos += 1
                return value
            if self.pos + 1 < self.end:
                second = self.data[self.pos + 1]
                if second < 0x80:
                    self.pos += 2
                    return second << 7 | value & 0x7F
        return self._unsigned(32)

    def u64(self) -> int:
        """An unsigned LEB128 number of up to 64 bits."""
        return self._unsigned(64)

    def s33(self) -> int:
        """A signed LEB128 number of up to 33 bits: type indices, and below 0 the shorthands of types."""
        return self._signed(33)

    def s32(self) -> int:
        """A signed LEB128 number of up to 32 bits."""
        return self._signed(32)

    def s64(self) -> int:
        """A signed LEB128 number of up to 64 bits."""
        return self._signed(64)

    def count(self) -> int:
        """The length of a vector. Each item takes a byte at least, so a length beyond the bytes left is refused
        here, before anybody allocates for it."""
        start = self.pos
        value = self.u32()
        if value > self.end - self.pos:
            raise self.fail(f"a vector of {value} items does not fit", start)
        return value

    def name(self) -> str:
        """A length and that many bytes of UTF-8."""
        start = self.pos
        length = self.u32()
        raw = self.take(length)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8", start) from None

    def _unsigned(self, bits: int) -> int:
        start = self.pos
        value = self._groups(bits, "number")
        if value >> bits:
            raise self.fail(f"a number exceeds {bits} bits", start)
        return value

    def _signed(self, bits: int) -> int:
        start = self.pos
        value = self._groups(bits, "number")
        width = 7 * (self.pos - start)
        if value >> (width - 1):
            value -= 1 << width
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            raise self.fail(f"a number exceeds {bits} bits", start)
        return value

    def _groups(self, bits: int, what: str) -> int:
        """The groups of 7 bits of a LEB128 number, as they are."""
        start = self.pos
        value = 0
        for shift in range(0, bits, 7):
            group = self.byte()
            value |= (group & 0x7F) << shift
            if group < 0x80:
                return value
        raise self.fail(f"a {what} of {bits} bits takes too many bytes", start)


def malformed(what: str, offset: int) -> MalformedModuleError:
    """An error that says what is wrong and at which byte of the module."""
    return MalformedModuleError(f"{what} (at byte {offset:#x})")


def encode_unsigned(value: int) -> bytes:
    """A number from 0 as the shortest LEB128."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def encode_signed(value: int) -> bytes:
    """A number as the shortest signed LEB128."""
    groups = bytearray()
    while not -0x40 <= value < 0x40:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value & 0x7F)
    return bytes(groups)


def encode_name(name: str) -> bytes:
    """A length and that many bytes of UTF-8."""
    raw = name.encode("utf-8")
    return encode_unsigned(len(raw)) + raw


def encode_section(number: int, content: bytes) -> bytes:
    """A whole section."""
    return bytes([number]) + encode_unsigned(len(content)) + content
