"""Decoding a whole binary module, section by section, into what the interpreter instantiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from extism_engines.errors import InvalidModuleError, UnsupportedFeatureError
from extism_engines.wasm.types import ExternType, FuncType, GlobalType, ImportType, MemoryType, TableType, ValueType

from .body import Body, compile_body, compile_constant
from .cursor import Cursor

_T = TypeVar("_T")

MAX_PAGES = 65536
MAX_ELEMENTS = 0xFFFF_FFFF


@attrs.frozen
class Segment:
    """A data or element segment.

    Attributes:
        items: Bytes; or constant expressions, one per element.
        target: Index of the memory or table, where the segment is active.
        offset: Constant expression of the place, where the segment is active.
        declarative: Dropped as soon as the instance is made.
    """

    items: Any
    target: int | None = None
    offset: Body | None = None
    declarative: bool = False


class DecodedModule:
    """A module, decoded and checked.

    Raises:
        InvalidModuleError: The bytes do not decode, or do not validate.
        UnsupportedFeatureError: They need a proposal or an opcode that the interpreter lacks.
    """

    def __init__(self, wasm: bytes) -> None:
        self.types: list[FuncType] = []
        self.imports: list[ImportType] = []
        self.function_types: list[FuncType] = []
        self.table_types: list[TableType] = []
        self.memory_types: list[MemoryType] = []
        self.global_types: list[GlobalType] = []
        self.imported_functions = 0
        self.imported_tables = 0
        self.imported_memories = 0
        self.imported_globals = 0
        self.global_values: list[Body] = []
        self.exports: dict[str, tuple[int, int]] = {}
        self.start: int | None = None
        self.elements: list[Segment] = []
        self.element_types: list[ValueType] = []
        self.data_count: int | None = None
        self.data: list[Segment] = []
        self.bodies: list[Body] = []
        self.declared: set[int] = set()
        self._cursor = Cursor(wasm)
        self._decode()

    def _decode(self) -> None:
        cursor = self._cursor
        if cursor.end < 8 or cursor.take(8) != b"\0asm\1\0\0\0":
            raise InvalidModuleError("not a WebAssembly module of version 1")
        # The data count comes before the code, whatever its number says.
        order = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11]
        sections: dict[int, Callable[[], None]] = {
            1: self._types,
            2: self._imports,
            3: self._functions,
            4: self._tables,
            5: self._memories,
            6: self._globals,
            7: self._exports,
            8: self._start,
            9: self._elements,
            10: self._code,
            11: self._data,
            12: self._data_count,
        }
        while not cursor.at_end:
            number, content = cursor.byte(), cursor.part(cursor.unsigned())
            if number == 0:
                content.name()
                continue
            if number == 13:
                raise UnsupportedFeatureError("the fake engine has no tag section (exceptions)")
            if number not in order:
                raise cursor.fail(f"malformed or repeated section {number}")
            del order[: order.index(number) + 1]
            self._cursor = content
            sections[number]()
            if not content.at_end:
                raise content.fail(f"section {number} is longer than its content")
        if len(self.bodies) != len(self.function_types) - self.imported_functions:
            raise cursor.fail("function and code section have inconsistent lengths")
        if len(self.data) != (self.data_count or len(self.data)) or (self.data_count == 0 and self.data):
            raise cursor.fail("data count and data section have inconsistent lengths")

    # -- sections, in their order -------------------------------------------------------------------------

    def _types(self) -> None:
        self.types = self._cursor.many(self._function_type)

    def _function_type(self) -> FuncType:
        cursor = self._cursor
        form = cursor.byte()
        if form in (0x4E, 0x4F, 0x50, 0x5E, 0x5F):
            raise UnsupportedFeatureError("the fake engine has function types only (gc)")
        if form != 0x60:
            raise cursor.fail("malformed function type")
        params = cursor.many(cursor.value_type)
        return FuncType(params, cursor.many(cursor.value_type))

    def _imports(self) -> None:
        cursor = self._cursor
        for _ in range(cursor.unsigned()):
            self.imports.append(ImportType(cursor.name(), cursor.name(), self._import_type()))
        self.imported_functions = len(self.function_types)
        self.imported_tables = len(self.table_types)
        self.imported_memories = len(self.memory_types)
        self.imported_globals = len(self.global_types)

    def _import_type(self) -> ExternType:
        kind = self._cursor.byte()
        if kind == 0:
            self.function_types.append(self._type(self._cursor.unsigned()))
            return self.function_types[-1]
        if kind == 1:
            return self._table()
        if kind == 2:
            return self._memory()
        if kind == 3:
            self.global_types.append(self._global_type())
            return self.global_types[-1]
        if kind == 4:
            raise UnsupportedFeatureError("the fake engine has no tags (exceptions)")
        raise self._cursor.fail("malformed import kind")

    def _functions(self) -> None:
        self.function_types += self._cursor.many(lambda: self._type(self._cursor.unsigned()))

    def _tables(self) -> None:
        self._cursor.many(self._table)

    def _table(self) -> TableType:
        self.table_types.append(TableType(self._cursor.reference_type(), self._cursor.limits(MAX_ELEMENTS)))
        return self.table_types[-1]

    def _memories(self) -> None:
        self._cursor.many(self._memory)

    def _memory(self) -> MemoryType:
        if self.memory_types:
            raise UnsupportedFeatureError("the fake engine has one memory only (multi-memory)")
        self.memory_types.append(MemoryType(self._cursor.limits(MAX_PAGES)))
        return self.memory_types[-1]

    def _globals(self) -> None:
        for _ in range(self._cursor.unsigned()):
            type = self._global_type()
            self.global_values.append(self._constant(type.content))
            self.global_types.append(type)

    def _global_type(self) -> GlobalType:
        content, mutable = self._cursor.value_type(), self._cursor.byte()
        if mutable > 1:
            raise self._cursor.fail("malformed mutability")
        return GlobalType(content, bool(mutable))

    def _exports(self) -> None:
        cursor = self._cursor
        spaces: list[list[Any]] = [self.function_types, self.table_types, self.memory_types, self.global_types]
        for _ in range(cursor.unsigned()):
            name, kind, index = cursor.name(), cursor.byte(), cursor.unsigned()
            if name in self.exports:
                raise cursor.fail(f"duplicate export name {name!r}")
            if kind >= len(spaces) or index >= len(spaces[kind]):
                raise cursor.fail(f"unknown export {name!r}")
            self.exports[name] = kind, index
            if kind == 0:
                self.declared.add(index)

    def _start(self) -> None:
        self.start = self._cursor.unsigned()
        if self._at(self.function_types, self.start, "function") != FuncType():
            raise self._cursor.fail("the start function must take and give nothing")

    def _elements(self) -> None:
        self.elements = self._cursor.many(self._element_segment)

    def _element_segment(self) -> Segment:
        cursor = self._cursor
        flags = cursor.unsigned()
        if flags > 7:
            raise cursor.fail("malformed elements segment kind")
        passive, explicit, expressions = flags & 1, flags & 2, flags & 4
        target, offset = None, None
        if not passive:
            target = cursor.unsigned() if explicit else 0
            table = self._at(self.table_types, target, "table")
            offset = self._constant(ValueType.I32)
        kind = ValueType.FUNCREF
        if passive or explicit:
            if expressions:
                kind = cursor.reference_type()
            elif cursor.byte() != 0:
                raise cursor.fail("malformed element kind")
        if not passive and table.element is not kind:
            raise cursor.fail("type mismatch: element segment and table")
        items = cursor.many(lambda: self._constant(kind) if expressions else self._function_constant())
        self.element_types.append(kind)
        return Segment(items, target, offset, declarative=bool(passive and explicit))

    def _function_constant(self) -> Body:
        start = self._cursor.position
        self._cursor.unsigned()
        index = self._cursor.data[start : self._cursor.position]
        return compile_constant(self, Cursor(b"\xd2" + index + b"\x0b"), ValueType.FUNCREF)

    def _data_count(self) -> None:
        self.data_count = self._cursor.unsigned()

    def _code(self) -> None:
        cursor = self._cursor
        first = self.imported_functions
        count = cursor.unsigned()
        if count != len(self.function_types) - first:
            raise cursor.fail("function and code section have inconsistent lengths")
        for index in range(first, first + count):
            part = cursor.part(cursor.unsigned())
            self.bodies.append(compile_body(self, part, index, self.function_types[index]))

    def _data(self) -> None:
        self.data = self._cursor.many(self._data_segment)

    def _data_segment(self) -> Segment:
        cursor = self._cursor
        flags = cursor.unsigned()
        if flags > 2:
            raise cursor.fail("malformed data segment kind")
        target, offset = None, None
        if flags != 1:
            target = cursor.unsigned() if flags else 0
            self._at(self.memory_types, target, "memory")
            offset = self._constant(ValueType.I32)
        return Segment(cursor.take(cursor.unsigned()), target, offset)

    # -- pieces -------------------------------------------------------------------------------------------

    def _at(self, items: list[_T], index: int, what: str) -> _T:
        if index >= len(items):
            raise self._cursor.fail(f"unknown {what} {index}")
        return items[index]

    def _type(self, index: int) -> FuncType:
        return self._at(self.types, index, "type")

    def _constant(self, type: ValueType) -> Body:
        return compile_constant(self, self._cursor, type)
