"""The instructions on memories, references and tables: checking and decoding them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from extism_engines.errors import UnsupportedFeatureError
from extism_engines.wasm.types import ValueType

from . import bulk
from .cursor import REFERENCES
from .numeric import F32, F64, I32, f32_from_bits
from .opcodes import CONST, LOAD_FLOAT, LOAD_INT, OTHER, STORE_FLOAT, STORE_INT, UNARY
from .stacks import Stacks


class SpaceInstructions(Stacks):
    """Each method reads the immediates of one instruction, checks its operands, and emits it."""

    # -- memory -----------------------------------------------------------------------------------------

    def memory_index(self) -> None:
        if self.cursor.byte() != 0:
            raise UnsupportedFeatureError("the fake engine has one memory only (multi-memory)")
        self.need_memory()

    def need_memory(self) -> None:
        if not self.module.memory_types:
            raise self.cursor.fail("unknown memory 0")

    def memory_offset(self, form: struct.Struct) -> int:
        self.need_memory()
        alignment = self.cursor.unsigned()
        if alignment & 0x40:
            raise UnsupportedFeatureError("the fake engine has one memory only (multi-memory)")
        if alignment >= 32 or 1 << alignment > form.size:
            raise self.cursor.fail("alignment must not be larger than natural")
        return self.cursor.unsigned()

    def load(self, kind: ValueType, letter: str) -> None:
        form = struct.Struct("<" + letter)
        offset = self.memory_offset(form)
        self.pop(I32)
        self.push(kind)
        if kind is F64:
            self.emit(LOAD_FLOAT, form, offset, float)
        elif kind is F32:
            self.emit(LOAD_FLOAT, form, offset, f32_from_bits)
        else:
            self.emit(LOAD_INT, form, offset, 0xFFFF_FFFF if kind is I32 else 0xFFFF_FFFF_FFFF_FFFF)

    def store(self, kind: ValueType, letter: str) -> None:
        form = struct.Struct("<" + letter)
        offset = self.memory_offset(form)
        self.pop(kind)
        self.pop(I32)
        if kind in (F32, F64):
            self.emit(STORE_FLOAT, form, offset, kind is F32)
        else:
            self.emit(STORE_INT, form, offset, (1 << 8 * form.size) - 1)

    def other(
        self, handler: Callable[..., None], params: Sequence[ValueType], *results: ValueType, a: int = 0, b: int = 0
    ) -> None:
        self.pop_all(params)
        self.push(*results)
        self.emit(OTHER, handler, a, b)

    def memory_size(self) -> None:
        self.memory_index()
        self.other(bulk.memory_size, [], I32)

    def memory_grow(self) -> None:
        self.memory_index()
        self.other(bulk.memory_grow, [I32], I32)

    def memory_copy(self) -> None:
        self.memory_index()
        self.memory_index()
        self.other(bulk.memory_copy, [I32] * 3)

    def memory_fill(self) -> None:
        self.memory_index()
        self.other(bulk.memory_fill, [I32] * 3)

    def data_index(self) -> int:
        if self.module.data_count is None:
            raise self.cursor.fail("data count section required")
        return self.lookup(range(self.module.data_count), "data segment")[0]

    def memory_init(self) -> None:
        segment = self.data_index()
        self.memory_index()
        self.other(bulk.memory_init, [I32] * 3, a=segment)

    def data_drop(self) -> None:
        self.other(bulk.data_drop, [], a=self.data_index())

    # -- references and tables --------------------------------------------------------------------------

    def ref_null(self) -> None:
        self.push(self.cursor.reference_type())
        self.emit(CONST, None)

    def ref_is_null(self) -> None:
        if self.pop() not in (*REFERENCES, None):
            raise self.cursor.fail("type mismatch: ref.is_null needs a reference")
        self.push(I32)
        self.emit(UNARY, lambda reference: 1 if reference is None else 0)

    def ref_func(self) -> None:
        index, _ = self.lookup(self.module.function_types, "function")
        if self.constant:
            self.module.declared.add(index)
        elif index not in self.module.declared:
            raise self.cursor.fail(f"undeclared function reference {index}")
        self.other(bulk.ref_func, [], ValueType.FUNCREF, a=index)

    def table(self) -> tuple[int, ValueType]:
        index, type = self.lookup(self.module.table_types, "table")
        return index, type.element

    def table_get(self) -> None:
        index, element = self.table()
        self.other(bulk.table_get, [I32], element, a=index)

    def table_set(self) -> None:
        index, element = self.table()
        self.other(bulk.table_set, [I32, element], a=index)

    def table_size(self) -> None:
        self.other(bulk.table_size, [], I32, a=self.table()[0])

    def table_grow(self) -> None:
        index, element = self.table()
        self.other(bulk.table_grow, [element, I32], I32, a=index)

    def table_fill(self) -> None:
        index, element = self.table()
        self.other(bulk.table_fill, [I32, element, I32], a=index)

    def table_copy(self) -> None:
        target, target_element = self.table()
        source, source_element = self.table()
        if target_element is not source_element:
            raise self.cursor.fail("type mismatch: table.copy between tables of different types")
        self.other(bulk.table_copy, [I32] * 3, a=target, b=source)

    def table_init(self) -> None:
        segment, kind = self.lookup(self.module.element_types, "element segment")
        index, element = self.table()
        if kind is not element:
            raise self.cursor.fail("type mismatch: table.init from a segment of another type")
        self.other(bulk.table_init, [I32] * 3, a=index, b=segment)

    def elem_drop(self) -> None:
        self.other(bulk.elem_drop, [], a=self.lookup(self.module.element_types, "element segment")[0])
