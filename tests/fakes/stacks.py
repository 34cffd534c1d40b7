"""The operand and control stacks by which a body is checked, after the appendix of the WebAssembly specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Union

import attrs

from extism_engines.wasm.types import FuncType, GlobalType, MemoryType, TableType, ValueType

from .cursor import Cursor
from .opcodes import Code, Label


class ModuleTypes(Protocol):
    """What checking a body needs to know of its module."""

    types: list[FuncType]
    function_types: list[FuncType]
    table_types: list[TableType]
    memory_types: list[MemoryType]
    global_types: list[GlobalType]
    imported_globals: int
    element_types: list[ValueType]
    data_count: int | None
    declared: set[int]


BLOCK, LOOP, IF, ELSE, END = 0x02, 0x03, 0x04, 0x05, 0x0B

Operand = Union[ValueType, None]
"""Type of an operand; ``None`` is any type, in code that cannot be reached."""


@attrs.define
class Control:
    """A block that is open."""

    opcode: int
    params: Sequence[ValueType]
    results: Sequence[ValueType]
    height: int
    label: Label
    otherwise: Label | None = None  # of an ``if``, until its ``else``
    unreachable: bool = False


class Stacks:
    """Both stacks of one body, and the code made so far."""

    def __init__(self, module: ModuleTypes, cursor: Cursor, results: Sequence[ValueType], constant: bool) -> None:
        self.module = module
        self.cursor = cursor
        self.constant = constant  # whether this is a constant expression
        self.code: list[Code] = []
        self.operands: list[Operand] = []
        self.controls = [Control(BLOCK, (), results, 0, [0, len(results), 0])]

    def emit(self, op: int, a: Any = None, b: Any = None, c: Any = None) -> None:
        self.code.append((op, a, b, c))

    def push(self, *kinds: Operand) -> None:
        self.operands += kinds

    def pop(self, expected: Operand = None) -> Operand:
        control = self.controls[-1]
        if len(self.operands) == control.height:
            if control.unreachable:
                return None
            raise self.cursor.fail("type mismatch: an operand is missing")
        actual = self.operands.pop()
        if actual is not None and expected is not None and actual is not expected:
            raise self.cursor.fail(f"type mismatch: expected {expected}, found {actual}")
        return actual

    def pop_all(self, kinds: Sequence[ValueType]) -> list[Operand]:
        return [self.pop(kind) for kind in reversed(kinds)][::-1]

    def enter(self, opcode: int, params: Sequence[ValueType], results: Sequence[ValueType]) -> Control:
        self.pop_all(params)
        height = len(self.operands)
        label = [len(self.code), len(params if opcode == LOOP else results), height]
        self.controls.append(Control(opcode, params, results, height, label))
        self.push(*params)
        return self.controls[-1]

    def leave(self) -> Control:
        control = self.controls[-1]
        self.pop_all(control.results)
        if len(self.operands) != control.height:
            raise self.cursor.fail("type mismatch: operands are left at the end of a block")
        return self.controls.pop()

    def set_unreachable(self) -> None:
        control = self.controls[-1]
        del self.operands[control.height :]
        control.unreachable = True

    def lookup(self, items: Sequence[Any], what: str) -> tuple[int, Any]:
        index = self.cursor.unsigned()
        if index >= len(items):
            raise self.cursor.fail(f"unknown {what} {index}")
        return index, items[index]
