"""Decoding what modules declare: value types, the type section, limits, and types of imports.

A :class:`DeclarationDecoder` also notes which proposals the declarations rely on, since only the exact encoding
tells.
"""

from __future__ import annotations

from typing import Union

import attrs

from .binary import Cursor, encode_unsigned
from .types import FuncType, GlobalType, Limits, MemoryType, TableType, TagType, ValueType


@attrs.frozen
class StructType:
    """A structure of the GC proposal: nothing but the number of its fields matters here."""

    fields: int


@attrs.frozen
class ArrayType:
    """An array of the GC proposal."""


DefinedType = Union[FuncType, StructType, ArrayType]
"""What a type index stands for."""

PAGE_SIZE_LOG2 = 16
"""Logarithm of the bytes in a page of memory, unless the memory says otherwise (custom page sizes)."""

GREATEST_COUNTS = {
    "types": 1_000_000,
    "imports": 1_000_000,
    "functions": 1_000_000,
    "tables": 100,
    "memories": 100,
    "tags": 1_000_000,
    "globals": 1_000_000,
    "exports": 1_000_000,
    "element segments": 1_000_000,
    "data segments": 1_000_000,
    "parameters": 1_000,
    "results": 1_000,
}
"""How many of what a module may have at most, imported ones included, and a type of parameters and results. No engine
accepts more, and some accept less: to read on would take long for nothing."""


@attrs.frozen
class DefinedMemory:
    """A memory that the module defines.

    Attributes:
        type: Its type; limits are in pages of its own size.
        page_size_log2: Logarithm of the bytes in a page.
    """

    type: MemoryType
    page_size_log2: int = PAGE_SIZE_LOG2


def encode_limits(limits: Limits, index64: bool, shared: bool = False, page_size_log2: int = PAGE_SIZE_LOG2) -> bytes:
    """The limits of a table or memory, as in its type."""
    flags = 0
    numbers = [limits.minimum]
    if limits.maximum is not None:
        flags |= _HAS_MAXIMUM
        numbers.append(limits.maximum)
    flags |= (_SHARED if shared else 0) | (_INDEX_64 if index64 else 0)
    if page_size_log2 != PAGE_SIZE_LOG2:
        flags |= _PAGE_SIZE
        numbers.append(page_size_log2)
    return bytes([flags]) + b"".join(map(encode_unsigned, numbers))


_PLAIN_TYPES = {
    0x7F: (ValueType.I32, None),
    0x7E: (ValueType.I64, None),
    0x7D: (ValueType.F32, None),
    0x7C: (ValueType.F64, None),
    0x7B: (ValueType.V128, "simd"),
    0x70: (ValueType.FUNCREF, "reference-types"),
    0x6F: (ValueType.EXTERNREF, "reference-types"),
}
_ABSTRACT_HEAP_TYPES = {
    0x75: None,  # nocont, of stack switching
    0x74: "exceptions",  # noexn
    0x73: "gc",  # nofunc
    0x72: "gc",  # noextern
    0x71: "gc",  # none
    0x70: "reference-types",  # func
    0x6F: "reference-types",  # extern
    0x6E: "gc",  # any
    0x6D: "gc",  # eq
    0x6C: "gc",  # i31
    0x6B: "gc",  # struct
    0x6A: "gc",  # array
    0x69: "exceptions",  # exn
    0x68: None,  # cont, of stack switching
}
_NULLABLE_REF, _NON_NULL_REF = 0x63, 0x64
_PACKED_TYPES = frozenset({0x78, 0x77})
_REC_GROUP, _SUB, _SUB_FINAL = 0x4E, 0x50, 0x4F
_FUNC, _STRUCT, _ARRAY = 0x60, 0x5F, 0x5E
_HAS_MAXIMUM, _SHARED, _INDEX_64, _PAGE_SIZE = 0x01, 0x02, 0x04, 0x08


class DeclarationDecoder:
    """Decodes declarations at a cursor.

    Attributes:
        cursor: Where to read.
        proposals: Names of the proposals that what was read so far relies on.
    """

    __slots__ = ("cursor", "proposals")

    def __init__(self, cursor: Cursor, proposals: set[str]) -> None:
        """Args: where to read; where to note proposals."""
        self.cursor = cursor
        self.proposals = proposals

    def count(self, what: str, before: int = 0) -> int:
        """The length of a vector of declarations.

        Args:
            what: A key of :data:`GREATEST_COUNTS`.
            before: How many of them the module has already.

        Raises:
            MalformedModuleError: The vector does not fit, or engines do not accept as many.
        """
        at = self.cursor.pos
        count = self.cursor.count()
        self.refuse_excess(what, before + count, at)
        return count

    def refuse_excess(self, what: str, count: int, at: int) -> None:
        """Raises an error that names an offset if engines do not accept as many."""
        greatest = GREATEST_COUNTS[what]
        if count > greatest:
            raise self.cursor.fail(f"{count:,} {what} are more than the {greatest:,} that engines accept", at)

    def value_type(self) -> ValueType:
        """A number, vector or reference type."""
        at = self.cursor.pos
        code = self.cursor.byte()
        plain = _PLAIN_TYPES.get(code)
        if plain is not None:
            self._note(plain[1])
            return plain[0]
        return self._reference_type(code, at)

    def reference_type(self) -> ValueType:
        """The element type of a table: as :meth:`value_type`, but ``funcref`` is nothing new there."""
        if self.cursor.data[self.cursor.pos : self.cursor.pos + 1] == b"\x70":
            self.cursor.skip(1)
            return ValueType.FUNCREF
        return self.value_type()

    def heap_type(self) -> int:
        """What a reference refers to: a type index, or below 0 one of the abstract types."""
        at = self.cursor.pos
        heap_type = self.cursor.s33()
        if heap_type >= 0:
            self.proposals.add("function-references")
        elif heap_type & 0x7F in _ABSTRACT_HEAP_TYPES and heap_type >= -0x40:
            self._note(_ABSTRACT_HEAP_TYPES[heap_type & 0x7F])
        else:
            raise self.cursor.fail(f"unknown heap type {heap_type}", at)
        return heap_type

    def func_type(self) -> FuncType:
        """Parameters and results."""
        params = tuple([self.value_type() for _ in range(self.count("parameters"))])
        results = tuple([self.value_type() for _ in range(self.count("results"))])
        if len(results) > 1:
            self.proposals.add("multi-value")
        return FuncType(params, results)

    def type_section(self) -> tuple[DefinedType, ...]:
        """All types, one per index: recursion groups are flattened."""
        types: list[DefinedType] = []
        for _ in range(self.count("types")):
            at = self.cursor.pos
            code = self.cursor.byte()
            if code == _REC_GROUP:
                self.proposals.add("gc")
                count = self.count("types", len(types))
                types.extend([self._sub_type(self.cursor.byte()) for _ in range(count)])
            else:
                # Groups count as one each, so that there may be more than the section says.
                self.refuse_excess("types", len(types) + 1, at)
                types.append(self._sub_type(code))
        return tuple(types)

    def memory_type(self) -> DefinedMemory:
        """A memory's type, with its page size."""
        flags, limits = self._limits(_HAS_MAXIMUM | _SHARED | _INDEX_64 | _PAGE_SIZE)
        page_size_log2 = PAGE_SIZE_LOG2
        if flags & _PAGE_SIZE:
            self.proposals.add("custom-page-sizes")
            at = self.cursor.pos
            page_size_log2 = self.cursor.u32()
            if page_size_log2 > 63:
                raise self.cursor.fail("page size out of range", at)
        if flags & _SHARED:
            self.proposals |= {"shared-memory", "threads"}
        return DefinedMemory(MemoryType(limits, bool(flags & _INDEX_64), bool(flags & _SHARED)), page_size_log2)

    def table_has_value(self) -> bool:
        """Whether a table with an initial value follows; steps over the mark of one."""
        has_value = self.cursor.data[self.cursor.pos : self.cursor.pos + 2] == b"\x40\0"
        if has_value:
            self.cursor.skip(2)
            self.proposals.add("function-references")
        return has_value

    def table_type(self) -> TableType:
        """A table's type, without the mark of an initial value and that value."""
        element = self.reference_type()
        limits, table64 = self.table_limits()
        return TableType(element, limits, table64)

    def table_limits(self) -> tuple[Limits, bool]:
        """A table's limits, and whether they are those of a 64-bit table."""
        flags, limits = self._limits(_HAS_MAXIMUM | _SHARED | _INDEX_64)
        return limits, bool(flags & _INDEX_64)

    def global_type(self) -> GlobalType:
        """A global's type, without its initial value."""
        content = self.value_type()
        at = self.cursor.pos
        mutability = self.cursor.byte()
        if mutability > 1:
            raise self.cursor.fail(f"malformed mutability {mutability:#04x}", at)
        return GlobalType(content, mutability == 1)

    def tag_type(self, types: tuple[DefinedType, ...]) -> TagType:
        """A tag's type."""
        at = self.cursor.pos
        if self.cursor.byte() != 0:
            raise self.cursor.fail("malformed tag attribute", at)
        return TagType(self.func_type_index(types).params)

    def func_type_index(self, types: tuple[DefinedType, ...]) -> FuncType:
        """The function type that an index names."""
        at = self.cursor.pos
        index = self.cursor.u32()
        found = types[index] if index < len(types) else None
        if not isinstance(found, FuncType):
            raise self.cursor.fail(f"type {index} is not a function type of this module", at)
        return found

    def _note(self, proposal: str | None) -> None:
        if proposal is not None:
            self.proposals.add(proposal)

    def _reference_type(self, code: int, at: int) -> ValueType:
        if code in (_NULLABLE_REF, _NON_NULL_REF):
            self.proposals.add("function-references")
            heap_type = self.heap_type()
            if code == _NULLABLE_REF and heap_type >= -0x40:
                shorthand = _PLAIN_TYPES.get(heap_type & 0x7F) if heap_type < 0 else None
                return shorthand[0] if shorthand is not None else ValueType.OTHER_REF
            return ValueType.OTHER_REF
        if code in _ABSTRACT_HEAP_TYPES:
            self._note(_ABSTRACT_HEAP_TYPES[code])
            return ValueType.OTHER_REF
        raise self.cursor.fail(f"unknown value type {code:#04x}", at)

    def _sub_type(self, code: int) -> DefinedType:
        if code in (_SUB, _SUB_FINAL):
            self.proposals.add("gc")
            for _ in range(self.cursor.count()):
                self.cursor.u32()
            code = self.cursor.byte()
        if code == _FUNC:
            return self.func_type()
        if code == _STRUCT:
            self.proposals.add("gc")
            fields = self.cursor.count()
            for _ in range(fields):
                self._field_type()
            return StructType(fields)
        if code == _ARRAY:
            self.proposals.add("gc")
            self._field_type()
            return ArrayType()
        raise self.cursor.fail(f"unknown type form {code:#04x}", self.cursor.pos - 1)

    def _field_type(self) -> None:
        if self.cursor.data[self.cursor.pos : self.cursor.pos + 1] in (b"\x78", b"\x77"):
            self.cursor.skip(1)
        else:
            self.value_type()
        self.cursor.skip(1)

    def _limits(self, allowed: int) -> tuple[int, Limits]:
        at = self.cursor.pos
        flags = self.cursor.byte()
        if flags & ~allowed:
            raise self.cursor.fail(f"malformed limits flags {flags:#04x}", at)
        number = self.cursor.u32
        if flags & _INDEX_64:
            self.proposals.add("memory64")
            number = self.cursor.u64
        minimum = number()
        maximum = number() if flags & _HAS_MAXIMUM else None
        return flags, Limits(minimum, maximum)
