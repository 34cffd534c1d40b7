"""Shapes of functions: their instructions with a byte each, as a string that C code can search and sum up.

The byte is the opcode, where the opcode alone tells the effect on the operand stack, which is so for nearly all
instructions. A regular expression takes these out of the code, many times faster than a loop over instructions.
Everything else is spelled with bytes that no opcode uses: :data:`POP`, :data:`PUSH`, :data:`TYPED_BLOCK`,
:data:`TYPED_LOOP` and :data:`VALUE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import attrs

from ..errors import UnsupportedFeatureError
from .binary import Cursor
from .code import VOID_BLOCK, Stride, immediates_pattern, opcode_class, read_instruction, stride
from .declarations import ArrayType, DefinedType, StructType
from .opcodes import Effect, Instruction, Op, instruction_set
from .types import FuncType, ValueType

POP, PUSH = 0xE0, 0xE8
"""Bytes for popping and pushing 1, 2, 4 … 128 operands: the eight from here."""

TYPED_BLOCK = 0xF0
"""A block with parameters or results. The condition of an ``if`` is popped before."""

TYPED_LOOP = 0xF2
"""Precedes :data:`TYPED_BLOCK` where that is a loop."""

VALUE = 0xF1
"""A value that a compiler may compute, beside those that opcodes stand for."""

CONTROL = (
    *(Op.BLOCK, Op.LOOP, Op.IF, Op.ELSE, Op.END),
    *(Op.UNREACHABLE, Op.BR, Op.BR_TABLE, Op.RETURN),
    TYPED_BLOCK,
)
"""Bytes of a shape where blocks begin and end, and after which code cannot be reached."""

CALLS = frozenset({Op.CALL, Op.CALL_INDIRECT, Op.CALL_REF, Op.RETURN_CALL, Op.RETURN_CALL_INDIRECT, Op.RETURN_CALL_REF})
"""Instructions that call."""


@attrs.define
class Shape:
    """What the instructions of a function come down to.

    Attributes:
        text: The string described above.
        block_types: Operands that typed blocks take and leave, in order.
        calls: Offsets where each call begins and ends.
        longest_call: Most parameters and results of any function that is called.
        vectors: Whether a ``v128`` is met with.
    """

    text: bytes = b""
    block_types: list[Effect] = attrs.field(factory=list)
    calls: list[tuple[int, int]] = attrs.field(factory=list)
    longest_call: int = 0
    vectors: bool = False


@attrs.frozen
class _Spelling:
    """How an instruction is spelled in a shape, and what it adds to the other attributes."""

    text: bytes
    block_type: Effect | None = None
    call_length: int = 0
    vectors: bool = False


class ShapeReader:
    """Reads the shapes of one module's functions."""

    def __init__(self, types: Sequence[DefinedType], function_types: Sequence[FuncType]) -> None:
        """Args: types by index; types of all functions by index, imported ones first."""
        self._types = types
        self._function_types = function_types
        # An instruction with the same bytes is spelled the same everywhere in a module.
        self._spellings: dict[bytes, _Spelling] = {}

    def read(self, code: bytes, start: int, end: int) -> Shape:
        """Reads the instructions between two offsets.

        Raises:
            MalformedModuleError: An instruction is malformed, or an index out of range.
            UnsupportedFeatureError: An unknown opcode, a tail call or an exception.
        """
        step, opcodes, plain = _plain_stride(), _opcodes(), _plain_codes()
        cursor = Cursor(code, start, end)
        shape = Shape()
        parts: list[bytes] = []
        while True:
            at = step(code, cursor.pos, end)
            if at > cursor.pos:
                parts += opcodes(code[cursor.pos : at])
            if at >= end:
                break
            cursor.pos = at
            instruction = read_instruction(cursor)
            if instruction.code in plain and instruction.code not in _BLOCKS:
                parts.append(instruction.encoding)
            else:
                parts.append(self._add(shape, instruction, code, at, cursor.pos))
        shape.text = b"".join(parts)
        return shape

    def _add(self, shape: Shape, instruction: Instruction, code: bytes, start: int, end: int) -> bytes:
        """Notes an instruction in a shape; gives its spelling."""
        if instruction.code in CALLS:
            shape.calls.append((start, end))
        raw = code[start:end]
        spelling = self._spellings.get(raw)
        if spelling is None:
            spelling = self._spellings[raw] = self._spell(instruction, Cursor(code, start, end))
        if spelling.block_type is not None:
            shape.block_types.append(spelling.block_type)
        if spelling.call_length > shape.longest_call:
            shape.longest_call = spelling.call_length
        if spelling.vectors:
            shape.vectors = True
        return spelling.text

    def _spell(self, instruction: Instruction, cursor: Cursor) -> _Spelling:
        code = instruction.code
        if code in _REFUSED:
            raise UnsupportedFeatureError(f"stack cannot be counted in a module that uses {_REFUSED[code]}")
        cursor.skip(1)
        if code in _BLOCKS:
            return self._spell_block(code, cursor)
        if code in CALLS:
            return self._spell_call(code, cursor)
        if code >= 0x100:
            cursor.u32()  # the rest of the opcode
        effect = instruction.effect or self._aggregate_effect(code, cursor)
        # More than an instruction of this kind needs: an address, a bounds check, and its result.
        return _Spelling(_spell_effect(effect) + bytes([VALUE] * 3), vectors=code >> 16 == _SIMD)

    def _spell_block(self, code: int, cursor: Cursor) -> _Spelling:
        before = {Op.BLOCK: b"", Op.LOOP: bytes([TYPED_LOOP]), Op.IF: bytes([POP])}[Op(code)]
        first = cursor.data[cursor.pos]
        if first == 0x40:
            return _Spelling(bytes([code]))
        if 0x40 < first < 0x80:  # a value type
            return _Spelling(before + bytes([TYPED_BLOCK]), Effect(0, 1), vectors=first == _V128)
        block_type = self._func_type(cursor, cursor.s33())
        effect = Effect(len(block_type.params), len(block_type.results))
        return _Spelling(before + bytes([TYPED_BLOCK]), effect, vectors=_has_vectors(block_type))

    def _spell_call(self, code: int, cursor: Cursor) -> _Spelling:
        index = cursor.u32()
        if code == Op.CALL:
            if index >= len(self._function_types):
                raise cursor.fail(f"function {index} does not exist")
            callee, selectors = self._function_types[index], 0
        else:
            callee, selectors = self._func_type(cursor, index), 1  # the index in the table, or the reference
        length = len(callee.params) + len(callee.results)
        effect = Effect(len(callee.params) + selectors, len(callee.results))
        # The callee's address and its instance; for a table also the address and bounds of the element.
        values = bytes([VALUE] * (2 + 2 * selectors))
        return _Spelling(_spell_effect(effect) + values, call_length=length, vectors=_has_vectors(callee))

    def _aggregate_effect(self, code: int, cursor: Cursor) -> Effect:
        aggregate = self._type(cursor, cursor.u32())
        if code == Op.STRUCT_NEW and isinstance(aggregate, StructType):
            return Effect(aggregate.fields, 1)
        if code == Op.ARRAY_NEW_FIXED and isinstance(aggregate, ArrayType):
            return Effect(cursor.u32(), 1)
        raise cursor.fail("an instruction does not fit its type")

    def _func_type(self, cursor: Cursor, index: int) -> FuncType:
        found = self._type(cursor, index)
        if not isinstance(found, FuncType):
            raise cursor.fail(f"type {index} is not a function type")
        return found

    def _type(self, cursor: Cursor, index: int) -> DefinedType:
        if not 0 <= index < len(self._types):
            raise cursor.fail(f"type {index} does not exist")
        return self._types[index]


_SIMD = 0xFD
_V128 = 0x7B
_BLOCKS = frozenset({Op.BLOCK, Op.LOOP, Op.IF})
_REFUSED: dict[int, str] = {
    Op.RETURN_CALL: "tail-call",
    Op.RETURN_CALL_INDIRECT: "tail-call",
    Op.RETURN_CALL_REF: "tail-call",
    Op.THROW: "exceptions",
    Op.THROW_REF: "exceptions",
    Op.TRY_TABLE: "exceptions",
    Op.TRY: "legacy-exceptions",
    Op.CATCH: "legacy-exceptions",
    Op.CATCH_ALL: "legacy-exceptions",
    Op.RETHROW: "legacy-exceptions",
    Op.DELEGATE: "legacy-exceptions",
}


def _has_vectors(type: FuncType) -> bool:
    return ValueType.V128 in type.params or ValueType.V128 in type.results


def _spell_effect(effect: Effect) -> bytes:
    return _spell_count(POP, effect.pops) + _spell_count(PUSH, effect.pushes)


def _spell_count(first: int, count: int) -> bytes:
    rest = bytes([first + bit for bit in range(7) if count >> bit & 1])
    return rest + bytes([first + 7]) * (count >> 7)


@cache
def net_effects() -> list[int]:
    """By how much each byte of a shape that is not :data:`CONTROL` changes the height of the operand stack."""
    net = [0] * 256
    for code in _plain_codes():
        effect = instruction_set()[code].effect
        if effect is not None:
            net[code] = effect.pushes - effect.pops
    for bit in range(8):
        net[POP + bit] = -(1 << bit)
        net[PUSH + bit] = 1 << bit
    return net


@cache
def _plain_codes() -> frozenset[int]:
    """Opcodes of one byte that tell their effect on the stack; blocks do when they have no parameters and results."""
    return frozenset(
        instruction.code
        for instruction in instruction_set().values()
        if instruction.code < 0x100 and (instruction.effect is not None or instruction.code in CONTROL)
    )


@cache
def _plain_stride() -> Stride:
    """Steps over instructions that have a shape by their opcode alone."""
    return stride(frozenset(instruction_set()) - _plain_codes(), VOID_BLOCK)


@cache
def _opcodes() -> Callable[[bytes], list[bytes]]:
    """Finds the opcodes in a run of plain instructions."""
    shapes: dict[bytes, list[int]] = {}
    for code in sorted(_plain_codes()):
        pattern = immediates_pattern(instruction_set()[code].immediates, VOID_BLOCK)
        if pattern is not None:
            shapes.setdefault(pattern, []).append(code)
    alternatives = [rb"(?<=" + opcode_class(codes) + rb")" + pattern for pattern, codes in shapes.items()]
    return re.compile(rb"(.)(?:" + rb"|".join(alternatives) + rb")", re.DOTALL).findall
