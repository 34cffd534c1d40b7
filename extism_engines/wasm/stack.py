"""How much stack a function takes, at most, on an engine that does not say.

Engines without a stack guard of their own (PyPI ``wasmer`` 1.1.0) are given modules that count the bytes of their
frames. What a frame takes is up to the compiler, so this is a bound that was calibrated on both of that package's
compilers (``tests/wasm/test_stack_calibration.py`` does it again). It must hold for hostile code too:

- A slot for every parameter and local, and for every operand at the greatest height of the operand stack. 8 bytes, or
  16 in a function that touches ``v128``.
- A slot for every value that an instruction computes. Cranelift keeps a value that is computed again later, or
  that a loop does not change, for as long as it lives, and does so for all of them at once: a loop over 1,000
  products of a constant takes a frame of 8,000 bytes, at an operand height of 3.
- A slot for every parameter and result of the longest call, since those beyond the registers are passed on the stack.
- A constant for return address, saved registers and alignment.

Heights follow the validation algorithm (appendix of the WebAssembly specification): what is pushed after a branch,
where code cannot be reached, does not count, and the height after ``end`` is always that of the block's type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate

import attrs

from ..errors import UnsupportedFeatureError
from .binary import Cursor, malformed
from .code import VOID_BLOCK, Stride, immediates_pattern, opcode_class, read_instruction, stride
from .declarations import ArrayType, DefinedType, StructType
from .opcodes import Effect, Instruction, Op, instruction_set
from .types import FuncType, GlobalType, ValueType

FRAME_CONSTANT = 128
"""Bytes of a frame besides its slots. Measured: up to 64 on Cranelift, up to 96 on Singlepass."""

MAX_FRAME = 512 * 1024
"""Bytes: a function with a larger frame is refused where stack is counted, because the check at its entry runs when the
frame is already there."""

CALLS = frozenset(
    {Op.CALL, Op.CALL_INDIRECT, Op.CALL_REF, Op.RETURN_CALL, Op.RETURN_CALL_INDIRECT, Op.RETURN_CALL_REF}
)
"""Instructions that call."""

_SLOT, _VECTOR_SLOT = 8, 16
_PREFIX_SIMD = 0xFD


@attrs.frozen
class Frame:
    """What was found in a function's body.

    Attributes:
        size: Bytes of stack that one activation takes, at most.
        calls: Its calls: the instruction, and the offsets where it begins and ends.
    """

    size: int
    calls: Sequence[tuple[Instruction, int, int]]


class FrameEstimator:
    """Bounds the frames of one module's functions."""

    def __init__(
        self, types: Sequence[DefinedType], function_types: Sequence[FuncType], globals: Sequence[GlobalType]
    ) -> None:
        """Args: types by index; types of all functions by index; types of all globals."""
        self._types = types
        self._function_types = function_types
        # global.get is not looked at one by one: one such global makes every function a user of v128.
        self._vectors_everywhere = any(entry.content is ValueType.V128 for entry in globals)
        self._segments: dict[bytes, tuple[int, int]] = {}

    def frame(self, code: bytes, start: int, end: int, type: FuncType, locals: int, vectors: bool) -> Frame:
        """Bounds one function.

        Args:
            code: The module, or whatever the offsets refer to.
            start: Where the instructions begin, after the declarations of locals.
            end: Where the body ends.
            type: The function's type.
            locals: How many locals it declares, besides its parameters.
            vectors: Whether one of them is a ``v128``.

        Raises:
            MalformedModuleError: Blocks are not balanced, or an index is out of range.
            UnsupportedFeatureError: An unknown opcode, a tail call or an exception.
        """
        shape = _Shape(self._types, self._function_types)
        shape.read(code, start, end)
        height = self._greatest_height(shape, end)
        vectors = vectors or shape.vectors or self._vectors_everywhere or ValueType.V128 in type.params + type.results
        slots = len(type.params) + locals + height + len(type.results) + shape.computed + shape.longest_call
        return Frame(FRAME_CONSTANT + (_VECTOR_SLOT if vectors else _SLOT) * slots, shape.calls)

    def _greatest_height(self, shape: _Shape, end: int) -> int:
        """The greatest height of the operand stack."""
        blocks: list[tuple[int, Effect, bool]] = [(0, Effect(0, 0), True)]
        typed = iter(shape.block_types)
        height = greatest = 0
        reachable = True
        for plain, control in _SEGMENTS.findall(shape.text):
            if plain and reachable:
                net, top = self._measure(plain)
                greatest = max(greatest, height + top)
                height += net
            kind = control[0]
            if kind == Op.BLOCK or kind == Op.LOOP:
                blocks.append((height, _VOID, reachable))
            elif kind == Op.IF:
                height -= reachable
                blocks.append((height, _VOID, reachable))
            elif kind == _TYPED_BLOCK:
                block_type = next(typed)
                blocks.append((height - block_type.pops, block_type, reachable))
            elif kind == Op.END or kind == Op.ELSE:
                if not blocks:
                    raise malformed("an end too many in a function", end)
                below, block_type, reachable = blocks.pop()
                if kind == Op.END:
                    height = below + block_type.pushes
                else:
                    height = below + block_type.pops
                    blocks.append((below, block_type, reachable))
            else:
                reachable = False
        if blocks:
            raise malformed("a function without its end", end)
        return greatest

    def _measure(self, plain: bytes) -> tuple[int, int]:
        """Net change of height, and greatest height, along a shape without control instructions."""
        known = self._segments.get(plain)
        if known is None:
            heights = list(accumulate(map(_net_effects().__getitem__, plain)))
            known = self._segments[plain] = heights[-1], max(heights)
        return known


# -- shapes --------------------------------------------------------------------------------------------
#
# A function's shape is a string with a byte per instruction: its opcode, when the opcode alone tells the effect on the
# operand stack, which is so for nearly all. A regular expression takes the opcodes out, and a shape is then searched
# and summed up by C code, much faster than any loop over instructions. Everything else is spelled with bytes that no
# opcode uses.

_POP, _PUSH = 0xE0, 0xE8
"""Bytes for popping and pushing 1, 2, 4 … 128 operands."""
_TYPED_BLOCK = 0xF0
"""A block with parameters or results; the condition of an ``if`` is popped before."""
_VALUE = 0xF1
"""A computed value, beyond those that opcodes stand for."""

_VOID = Effect(0, 0)
_ENDERS = (Op.UNREACHABLE, Op.BR, Op.RETURN, Op.BR_TABLE)
_CONTROL = [Op.BLOCK, Op.LOOP, Op.IF, Op.ELSE, Op.END, *_ENDERS, _TYPED_BLOCK]
_SEGMENTS = re.compile(
    rb"([^" + opcode_class(list(_CONTROL))[1:-1] + rb"]*)(" + opcode_class(list(_CONTROL)) + rb")", re.DOTALL
)
_REFUSED = {
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
_NOT_COMPUTING = frozenset(
    {0x01, 0x1A, 0x20, 0x21, 0x22, 0x41, 0x42, 0x43, 0x44}  # nop, drop, locals, constants
    | {int(code) for code in _CONTROL}
    | {Op.BR_IF}
    | set(range(_POP, _POP + 16))
)
_ADDRESSING = frozenset({0x23, 0x24, 0x25, 0x26, *range(0x28, 0x41)})
"""Globals, tables and memories: a compiler computes an address as well."""


class _Shape:
    """The shape of one function, and what else comes to light on the way."""

    def __init__(self, types: Sequence[DefinedType], function_types: Sequence[FuncType]) -> None:
        self._types = types
        self._function_types = function_types
        self.text = b""
        self.block_types: list[Effect] = []
        self.calls: list[tuple[Instruction, int, int]] = []
        self.longest_call = 0
        self.vectors = False

    @property
    def computed(self) -> int:
        """Values that the instructions compute."""
        single = len(self.text.translate(None, delete=bytes(_NOT_COMPUTING)))
        addresses = len(self.text) - len(self.text.translate(None, delete=bytes(_ADDRESSING)))
        return single + addresses

    def read(self, code: bytes, start: int, end: int) -> None:
        """Reads the instructions between two offsets."""
        step, opcodes = _plain_stride(), _opcodes()
        cursor = Cursor(code, start, end)
        parts: list[bytes] = []
        while True:
            at = step(code, cursor.pos, end)
            if at > cursor.pos:
                parts += opcodes(code[cursor.pos : at])
            if at >= end:
                break
            cursor.pos = at
            instruction = read_instruction(cursor)
            parts.append(self._spell(instruction, Cursor(code, at, cursor.pos)))
        self.text = b"".join(parts)

    def _spell(self, instruction: Instruction, cursor: Cursor) -> bytes:
        """The shape of an instruction that has no shape by its opcode alone."""
        code = instruction.code
        if code in _REFUSED:
            proposal = _REFUSED[Op(code)]
            raise UnsupportedFeatureError(f"stack cannot be counted in modules that use {proposal}")
        if code in (Op.BLOCK, Op.LOOP, Op.IF):
            self.block_types.append(self._block_type(cursor))
            return bytes([_POP, _TYPED_BLOCK]) if code == Op.IF else bytes([_TYPED_BLOCK])
        if code in _plain_codes():
            return bytes([code])
        if code in CALLS:
            return self._spell_call(instruction, cursor)
        if code >> 16 == _PREFIX_SIMD:
            self.vectors = True
        effect = instruction.effect or self._aggregate_effect(instruction, cursor)
        return _spell_effect(effect) + bytes([_VALUE, _VALUE, _VALUE])

    def _spell_call(self, instruction: Instruction, cursor: Cursor) -> bytes:
        self.calls.append((instruction, cursor.pos, cursor.end))
        cursor.skip(1)
        index = cursor.u32()
        if instruction.code == Op.CALL:
            if index >= len(self._function_types):
                raise cursor.fail(f"function {index} does not exist")
            callee: DefinedType = self._function_types[index]
            beyond = 0
        else:
            callee = self._type(cursor, index)
            beyond = 1  # the index in the table, or the reference
        if not isinstance(callee, FuncType):
            raise cursor.fail(f"type {index} is not a function type")
        self._note_vectors(callee)
        self.longest_call = max(self.longest_call, len(callee.params) + len(callee.results))
        effect = Effect(len(callee.params) + beyond, len(callee.results))
        # Results cannot be computed in advance, but the callee's address and its instance are values.
        return _spell_effect(effect) + bytes([_VALUE]) * (2 + 2 * beyond)

    def _block_type(self, cursor: Cursor) -> Effect:
        cursor.skip(1)
        first = cursor.data[cursor.pos]
        if first == 0x40:
            return _VOID
        if 0x40 < first < 0x80:  # a value type
            self.vectors = self.vectors or first == 0x7B
            return Effect(0, 1)
        index = cursor.s33()
        block_type = self._type(cursor, index)
        if not isinstance(block_type, FuncType):
            raise cursor.fail(f"type {index} is not a function type")
        self._note_vectors(block_type)
        return Effect(len(block_type.params), len(block_type.results))

    def _aggregate_effect(self, instruction: Instruction, cursor: Cursor) -> Effect:
        cursor.skip(1)
        cursor.u32()  # the rest of the opcode
        aggregate = self._type(cursor, cursor.u32())
        if instruction.code == Op.STRUCT_NEW and isinstance(aggregate, StructType):
            return Effect(aggregate.fields, 1)
        if instruction.code == Op.ARRAY_NEW_FIXED and isinstance(aggregate, ArrayType):
            return Effect(cursor.u32(), 1)
        raise cursor.fail("an instruction does not fit its type")

    def _type(self, cursor: Cursor, index: int) -> DefinedType:
        if not 0 <= index < len(self._types):
            raise cursor.fail(f"type {index} does not exist")
        return self._types[index]

    def _note_vectors(self, type: FuncType) -> None:
        if not self.vectors:
            self.vectors = ValueType.V128 in type.params or ValueType.V128 in type.results


def _spell_effect(effect: Effect) -> bytes:
    return _spell_count(_POP, effect.pops) + _spell_count(_PUSH, effect.pushes)


def _spell_count(first: int, count: int) -> bytes:
    rest = bytes([first + bit for bit in range(7) if count >> bit & 1])
    return rest + bytes([first + 7]) * (count >> 7)


@cache
def _plain_codes() -> frozenset[int]:
    """Opcodes of one byte that tell their effect on the stack, control instructions without types among them."""
    return frozenset(
        instruction.code
        for instruction in instruction_set().values()
        if instruction.code < 0x100 and (instruction.effect is not None or instruction.code in _CONTROL)
    )


@cache
def _plain_stride() -> Stride:
    """Steps over what has a shape by its opcode alone."""
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


@cache
def _net_effects() -> list[int]:
    """By how much each byte of a shape changes the height of the stack."""
    net = [0] * 256
    for code in _plain_codes():
        effect = instruction_set()[code].effect
        if effect is not None:
            net[code] = effect.pushes - effect.pops
    for bit in range(8):
        net[_POP + bit] = -(1 << bit)
        net[_PUSH + bit] = 1 << bit
    return net
