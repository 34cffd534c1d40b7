"""Blocks of Extism memory as host functions see them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from typing import Any

from ..kernel import Kernel


class Memory:
    """A block of Extism memory: where it begins and how many bytes it has."""

    __slots__ = ("length", "offset")

    def __init__(self, offs: int, length: int) -> None:
        self.offset = offs
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"Memory(offset={self.offset}, length={self.length})"


@functools.total_ordering
class MemoryView:
    """A window on a block. Reads and writes go to the plugin's memory at that moment: nothing here can dangle.

    It behaves as the official SDK's view does: ``view[:]`` and every other slice give ``bytes``, ``view[i]`` and
    iteration ``bytes`` of length 1; ``view[:] = data`` and ``view[i] = b"Z"`` write. It compares by content with bytes
    of any kind, and cannot be hashed. Beyond that, slices may have steps and a byte may be written as a number.

    What reads through C refuses a view with ``TypeError`` (``memoryview``, ``struct.unpack_from``, ``bytearray``, and
    ``b"".join`` of several): give it ``view[:]``.
    """

    def __init__(self, kernel: Kernel, memory: Memory) -> None:
        self._kernel = kernel
        self._offset = memory.offset
        self._length = memory.length

    def __repr__(self) -> str:
        return f"<MemoryView of {self._length} bytes at {self._offset}>"

    # -- reading and writing -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return self._read(0, self._length)

    def __getitem__(self, index: Any) -> bytes:
        if not isinstance(index, slice):
            return self._read(self._position(index), 1)
        positions = range(self._length)[index]
        return self._read(*_extent(positions))[:: positions.step]

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, slice):
            self._write(self._position(index), _single(value))
            return
        positions = range(self._length)[index]
        data = as_bytes(value)
        if len(data) != len(positions):
            raise ValueError(f"{len(positions)} bytes can be written there, not {len(data)}")
        if positions.step != 1:
            between = bytearray(self._read(*_extent(positions)))
            between[:: positions.step] = data
            data = bytes(between)
        self._write(_extent(positions)[0], data)

    def __iter__(self) -> Iterator[bytes]:
        data = bytes(self)
        return (data[i : i + 1] for i in range(len(data)))

    def __contains__(self, part: Any) -> bool:
        return part in bytes(self)

    # The empty block lies nowhere, so nothing is ever read or written for no bytes.

    def _read(self, first: int, count: int) -> bytes:
        return self._kernel.memory.read(self._offset + first, count) if count else b""

    def _write(self, first: int, data: bytes) -> None:
        if data:
            self._kernel.memory.write(self._offset + first, data)

    def _position(self, index: Any) -> int:
        try:
            return range(self._length)[operator.index(index)]
        except IndexError:
            raise IndexError(f"byte {index} of a block of {self._length}") from None

    # -- as bytes do ---------------------------------------------------------------------------------------

    __hash__ = None  # type: ignore[assignment]  # its bytes change

    def __eq__(self, other: object) -> Any:
        data = _bytes_or_none(other)
        return NotImplemented if data is None else bytes(self) == data

    def __lt__(self, other: object) -> Any:
        data = _bytes_or_none(other)
        return NotImplemented if data is None else bytes(self) < data

    def __add__(self, other: object) -> Any:
        data = _bytes_or_none(other)
        return NotImplemented if data is None else bytes(self) + data

    def __radd__(self, other: object) -> Any:
        return other + bytes(self) if isinstance(other, (bytes, bytearray)) else NotImplemented


def as_bytes(value: Any) -> bytes:
    """A copy of what holds bytes: ``bytes``, ``bytearray``, anything else that C can read, or a :class:`MemoryView`.

    Raises:
        TypeError: It is nothing of these.
    """
    return bytes(value) if isinstance(value, (bytes, MemoryView)) else memoryview(value).tobytes()


def _bytes_or_none(value: object) -> bytes | None:
    try:
        return as_bytes(value)
    except TypeError:
        return None


def _single(value: Any) -> bytes:
    """One byte to be written: given as bytes of length 1, or as a number."""
    data = _bytes_or_none(value)
    if data is None:
        return bytes((operator.index(value),))
    if len(data) != 1:
        raise TypeError(f"a single byte is expected, not {len(data)} bytes")
    return data


def _extent(positions: range) -> tuple[int, int]:
    """First byte and number of bytes from the lowest to the highest of these positions."""
    if not positions:
        return 0, 0
    low, high = sorted((positions[0], positions[-1]))
    return low, high - low + 1
