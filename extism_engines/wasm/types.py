"""Types of what modules import and export, as plain values.

One vocabulary for every engine: the reader makes these from a binary, adapters compare and convert
them. Names are those of the WebAssembly specification.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Union

import attrs


class ValueType(enum.Enum):
    """A WebAssembly value type. The value is its name in the text format.

    Reference types other than ``funcref`` and ``externref`` are all :attr:`OTHER_REF`: no plugin
    interface needs them, and no two engines spell them the same.
    """

    I32 = "i32"
    I64 = "i64"
    F32 = "f32"
    F64 = "f64"
    V128 = "v128"
    FUNCREF = "funcref"
    EXTERNREF = "externref"
    OTHER_REF = "ref"

    def __str__(self) -> str:
        return self.value

    @property
    def is_number(self) -> bool:
        """Whether values of this type are plain ``int`` or ``float`` for the host."""
        return self in _NUMBERS


_NUMBERS = frozenset({ValueType.I32, ValueType.I64, ValueType.F32, ValueType.F64})


def _as_tuple(types: Iterable[ValueType]) -> tuple[ValueType, ...]:
    return tuple(types)


@attrs.frozen
class FuncType:
    """Type of a function: what it takes and what it gives, in order."""

    params: tuple[ValueType, ...] = attrs.field(default=(), converter=_as_tuple)
    results: tuple[ValueType, ...] = attrs.field(default=(), converter=_as_tuple)

    def __str__(self) -> str:
        params = " ".join(map(str, self.params))
        results = " ".join(map(str, self.results))
        return f"({params}) -> ({results})"


@attrs.frozen
class Limits:
    """Size of a memory (in pages of 64 KiB) or table (in elements); ``maximum`` is ``None`` for none."""

    minimum: int
    maximum: int | None = None

    def __str__(self) -> str:
        return f"{self.minimum}.." + ("" if self.maximum is None else str(self.maximum))


@attrs.frozen
class MemoryType:
    """Type of a linear memory, in pages of 64 KiB."""

    limits: Limits
    memory64: bool = False
    shared: bool = False

    def __str__(self) -> str:
        return f"memory {self.limits}" + (" i64" if self.memory64 else "") + (" shared" if self.shared else "")


@attrs.frozen
class TableType:
    """Type of a table, in elements."""

    element: ValueType
    limits: Limits
    table64: bool = False

    def __str__(self) -> str:
        return f"table {self.limits} {self.element}" + (" i64" if self.table64 else "")


@attrs.frozen
class GlobalType:
    """Type of a global."""

    content: ValueType
    mutable: bool = False

    def __str__(self) -> str:
        return f"global (mut {self.content})" if self.mutable else f"global {self.content}"


@attrs.frozen
class TagType:
    """Type of an exception tag."""

    params: tuple[ValueType, ...] = attrs.field(default=(), converter=_as_tuple)

    def __str__(self) -> str:
        return "tag (" + " ".join(map(str, self.params)) + ")"


ExternType = Union[FuncType, MemoryType, TableType, GlobalType, TagType]


@attrs.frozen
class ImportType:
    """One import of a module."""

    module: str
    name: str
    type: ExternType


@attrs.frozen
class ExportType:
    """One export of a module."""

    name: str
    type: ExternType
