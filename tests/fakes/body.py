"""Function bodies: checked, and decoded once into tuples that the interpreter runs.

The checking follows the algorithm in the appendix of the WebAssembly specification: a stack of operand types and a
stack of control frames. What it knows about stack heights gives the branch targets: running a branch needs no search.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from extism_engines.errors import UnsupportedFeatureError
from extism_engines.wasm.types import FuncType, ValueType

from .cursor import REFERENCES, Cursor
from .numeric import F32, F64, I32, I64, OPERATIONS, f32_from_bits
from .opcodes import (
    BINARY,
    BR,
    BR_IF,
    BR_TABLE,
    BR_UNLESS,
    CALL,
    CALL_INDIRECT,
    CONST,
    CONSTANT,
    DROP,
    GLOBAL_GET,
    GLOBAL_SET,
    LACKING,
    LOADS,
    LOCAL_GET,
    LOCAL_SET,
    LOCAL_TEE,
    RETURN,
    SELECT,
    STORES,
    UNARY,
    UNREACHABLE,
    Code,
    Label,
)
from .spaces import SpaceInstructions
from .stacks import BLOCK, ELSE, END, IF, LOOP, ModuleTypes

MAX_LOCALS = 50_000


@attrs.frozen
class Body:
    """A function ready to run.

    Attributes:
        index: In its module's function index space.
        zeros: First values of its locals, parameters aside.
    """

    index: int
    type: FuncType
    zeros: list[Any]
    code: list[Code]


def compile_body(module: ModuleTypes, cursor: Cursor, index: int, type: FuncType) -> Body:
    """Checks and decodes the body of function ``index``; the cursor spans its declarations of locals and its code."""
    declared: list[ValueType] = []
    for _ in range(cursor.unsigned()):
        count, kind = cursor.unsigned(), cursor.value_type()
        if len(declared) + count > MAX_LOCALS:
            raise cursor.fail("too many locals")
        declared += [kind] * count
    code = _Compiler(module, cursor, type, declared).compile()
    if not cursor.at_end:
        raise cursor.fail("junk after the end of a function")
    return Body(index, type, [zero(kind) for kind in declared], code)


def compile_constant(module: ModuleTypes, cursor: Cursor, type: ValueType) -> Body:
    """Checks and decodes a constant expression: run as a function that takes nothing and gives the value."""
    signature = FuncType((), (type,))
    return Body(-1, signature, [], _Compiler(module, cursor, signature, [], constant=True).compile())


def zero(kind: ValueType) -> int | float | None:
    """What a local of that type starts with."""
    return None if kind in REFERENCES else 0.0 if kind in (F32, F64) else 0


class _Compiler(SpaceInstructions):
    def __init__(
        self,
        module: ModuleTypes,
        cursor: Cursor,
        type: FuncType,
        declared: Sequence[ValueType],
        constant: bool = False,
    ) -> None:
        super().__init__(module, cursor, type.results, constant)
        self.locals = [*type.params, *declared]

    def compile(self) -> list[Code]:
        while self.controls:
            self.instruction(self.cursor.byte())
        return self.code

    # -- instructions -----------------------------------------------------------------------------------

    def instruction(self, opcode: int) -> None:
        if self.constant and opcode not in CONSTANT:
            raise self.cursor.fail("constant expression required")
        number = opcode << 8 | self.cursor.unsigned() if opcode == 0xFC else opcode
        if number in OPERATIONS:
            operation = OPERATIONS[number]
            self.pop_all(operation.params)
            self.push(operation.result)
            self.emit(BINARY if len(operation.params) == 2 else UNARY, operation.function)
        elif number in LOADS:
            self.load(*LOADS[number])
        elif number in STORES:
            self.store(*STORES[number])
        elif number in _INSTRUCTIONS:
            _INSTRUCTIONS[number](self)
        elif number in LACKING:
            name = f"{number:#04x}" + (f" {self.cursor.unsigned():#04x}" if 0xFB <= number <= 0xFF else "")
            raise UnsupportedFeatureError(f"the fake engine has no opcode {name} ({LACKING[number]})")
        else:
            raise self.cursor.fail(f"illegal opcode {number:#04x}")

    def unreachable(self) -> None:
        self.emit(UNREACHABLE)
        self.set_unreachable()

    def nop(self) -> None:
        pass

    def block_type(self) -> tuple[Sequence[ValueType], Sequence[ValueType]]:
        first = self.cursor.peek()
        if first == 0x40:
            self.cursor.byte()
            return (), ()
        if first & 0xC0 == 0x40:  # negative in one byte: a value type
            return (), (self.cursor.value_type(),)
        index = self.cursor.signed(33)
        if not 0 <= index < len(self.module.types):
            raise self.cursor.fail(f"unknown type {index}")
        type = self.module.types[index]
        return type.params, type.results

    def block(self) -> None:
        self.enter(BLOCK, *self.block_type())

    def loop(self) -> None:
        self.enter(LOOP, *self.block_type())

    def if_(self) -> None:
        params, results = self.block_type()
        self.pop(I32)
        otherwise = [0, 0, 0]
        self.emit(BR_UNLESS, otherwise)
        self.enter(IF, params, results).otherwise = otherwise

    def else_(self) -> None:
        control = self.leave()
        if control.otherwise is None:
            raise self.cursor.fail("else without if")
        self.emit(BR, control.label)
        control.otherwise[0] = len(self.code)
        self.push(*control.params)
        self.controls.append(attrs.evolve(control, opcode=ELSE, otherwise=None, unreachable=False))

    def end(self) -> None:
        control = self.leave()
        if control.otherwise is not None:
            if tuple(control.params) != tuple(control.results):
                raise self.cursor.fail("type mismatch: an if without else must give what it takes")
            control.otherwise[0] = len(self.code)
        if control.opcode != LOOP:
            control.label[0] = len(self.code)
        self.push(*control.results)
        if not self.controls:
            self.emit(RETURN)

    def target(self) -> tuple[Label, Sequence[ValueType]]:
        depth = self.cursor.unsigned()
        if depth >= len(self.controls):
            raise self.cursor.fail(f"unknown label {depth}")
        control = self.controls[-1 - depth]
        return control.label, control.params if control.opcode == LOOP else control.results

    def br(self) -> None:
        label, kinds = self.target()
        self.pop_all(kinds)
        self.emit(BR, label)
        self.set_unreachable()

    def br_if(self) -> None:
        label, kinds = self.target()
        self.pop(I32)
        self.pop_all(kinds)
        self.push(*kinds)
        self.emit(BR_IF, label)

    def br_table(self) -> None:
        self.pop(I32)
        *targets, (default, kinds) = [self.target() for _ in range(self.cursor.unsigned() + 1)]
        for _, others in targets:
            if len(others) != len(kinds):
                raise self.cursor.fail("type mismatch: labels of different arity")
            self.push(*self.pop_all(others))
        self.pop_all(kinds)
        self.emit(BR_TABLE, [label for label, _ in targets], default)
        self.set_unreachable()

    def return_(self) -> None:
        function = self.controls[0]
        self.pop_all(function.results)
        self.emit(BR, function.label)
        self.set_unreachable()

    def call(self) -> None:
        index, type = self.lookup(self.module.function_types, "function")
        self.pop_all(type.params)
        self.push(*type.results)
        self.emit(CALL, index)

    def call_indirect(self) -> None:
        _, type = self.lookup(self.module.types, "type")
        index, table = self.lookup(self.module.table_types, "table")
        if table.element is not ValueType.FUNCREF:
            raise self.cursor.fail("type mismatch: call_indirect needs a table of functions")
        self.pop(I32)
        self.pop_all(type.params)
        self.push(*type.results)
        self.emit(CALL_INDIRECT, index, type)

    def drop(self) -> None:
        self.pop()
        self.emit(DROP)

    def select(self) -> None:
        self.pop(I32)
        first = self.pop()
        kind = self.pop(first) or first
        if kind in REFERENCES:
            raise self.cursor.fail("type mismatch: select of references needs a type")
        self.push(kind)
        self.emit(SELECT)

    def select_typed(self) -> None:
        kinds = self.cursor.many(self.cursor.value_type)
        if len(kinds) != 1:
            raise self.cursor.fail("invalid result arity of select")
        self.pop_all([*kinds, *kinds, I32])
        self.push(*kinds)
        self.emit(SELECT)

    def local_get(self) -> None:
        index, kind = self.lookup(self.locals, "local")
        self.push(kind)
        self.emit(LOCAL_GET, index)

    def local_set(self) -> None:
        index, kind = self.lookup(self.locals, "local")
        self.pop(kind)
        self.emit(LOCAL_SET, index)

    def local_tee(self) -> None:
        index, kind = self.lookup(self.locals, "local")
        self.pop(kind)
        self.push(kind)
        self.emit(LOCAL_TEE, index)

    def global_get(self) -> None:
        index, type = self.lookup(self.module.global_types, "global")
        if self.constant and (type.mutable or index >= self.module.imported_globals):
            raise self.cursor.fail("constant expression required")
        self.push(type.content)
        self.emit(GLOBAL_GET, index)

    def global_set(self) -> None:
        index, type = self.lookup(self.module.global_types, "global")
        if not type.mutable:
            raise self.cursor.fail("global is immutable")
        self.pop(type.content)
        self.emit(GLOBAL_SET, index)

    def constant_of(self, kind: ValueType) -> None:
        cursor = self.cursor
        value: int | float
        if kind is I32:
            value = cursor.signed(32) & 0xFFFF_FFFF
        elif kind is I64:
            value = cursor.signed(64) & 0xFFFF_FFFF_FFFF_FFFF
        elif kind is F32:
            value = f32_from_bits(int.from_bytes(cursor.take(4), "little"))
        else:
            (value,) = struct.unpack("<d", cursor.take(8))
        self.push(kind)
        self.emit(CONST, value)


_INSTRUCTIONS: dict[int, Callable[[_Compiler], None]] = {
    0x00: _Compiler.unreachable,
    0x01: _Compiler.nop,
    BLOCK: _Compiler.block,
    LOOP: _Compiler.loop,
    IF: _Compiler.if_,
    ELSE: _Compiler.else_,
    END: _Compiler.end,
    0x0C: _Compiler.br,
    0x0D: _Compiler.br_if,
    0x0E: _Compiler.br_table,
    0x0F: _Compiler.return_,
    0x10: _Compiler.call,
    0x11: _Compiler.call_indirect,
    0x1A: _Compiler.drop,
    0x1B: _Compiler.select,
    0x1C: _Compiler.select_typed,
    0x20: _Compiler.local_get,
    0x21: _Compiler.local_set,
    0x22: _Compiler.local_tee,
    0x23: _Compiler.global_get,
    0x24: _Compiler.global_set,
    0x25: _Compiler.table_get,
    0x26: _Compiler.table_set,
    0x3F: _Compiler.memory_size,
    0x40: _Compiler.memory_grow,
    0x41: lambda body: body.constant_of(I32),
    0x42: lambda body: body.constant_of(I64),
    0x43: lambda body: body.constant_of(F32),
    0x44: lambda body: body.constant_of(F64),
    0xD0: _Compiler.ref_null,
    0xD1: _Compiler.ref_is_null,
    0xD2: _Compiler.ref_func,
    0xFC08: _Compiler.memory_init,
    0xFC09: _Compiler.data_drop,
    0xFC0A: _Compiler.memory_copy,
    0xFC0B: _Compiler.memory_fill,
    0xFC0C: _Compiler.table_init,
    0xFC0D: _Compiler.elem_drop,
    0xFC0E: _Compiler.table_copy,
    0xFC0F: _Compiler.table_grow,
    0xFC10: _Compiler.table_size,
    0xFC11: _Compiler.table_fill,
}
