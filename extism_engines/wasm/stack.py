"""How much stack a function takes, at most, on an engine that does not say.

Engines without a stack guard of their own (PyPI ``wasmer`` 1.1.0) are given modules that count the bytes of their
frames. What a frame takes is up to the compiler, so this is a bound that was calibrated on both of that package's
compilers (``tests/wasm/test_stack_calibration.py`` does it again). It must hold for hostile code too:

- A slot for every parameter and local, and for every operand at the greatest height of the operand stack. 8 bytes, or
  16 in a function that touches ``v128``.
- A slot for every value that an instruction computes, or every other one in a function without loops. Cranelift
  computes once what a loop leaves as it is, or what is computed again later, and keeps all of these at once: a loop
  over 1,000 products of a parameter takes a frame of 8,000 bytes, at an operand height of 3.
- A slot for every parameter and result of the longest call, since those beyond the registers are passed on the stack.
- A constant for return address, saved registers and alignment.

Heights follow the validation algorithm (appendix of the WebAssembly specification): what is pushed after a branch,
where code cannot be reached, does not count, and the height after ``end`` is always that of the block's type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

import attrs

from .binary import malformed
from .code import opcode_class
from .declarations import DefinedType
from .opcodes import Effect, Op
from .shapes import CONTROL, POP, TYPED_BLOCK, TYPED_LOOP, Shape, ShapeReader, net_effects
from .types import FuncType, GlobalType, ValueType

FRAME_CONSTANT = 128
"""Bytes of a frame besides its slots. Measured: up to 64 on Cranelift, up to 96 on Singlepass."""

MAX_FRAME = 512 * 1024
"""Bytes: a function with a larger frame is refused where stack is counted, because the check at its entry runs when the
frame is already there."""

_SLOT, _VECTOR_SLOT = 8, 16


@attrs.frozen
class Frame:
    """What was found in a function's body.

    Attributes:
        size: Bytes of stack that one activation takes, at most.
        calls: Offsets where each of its calls begins and ends.
    """

    size: int
    calls: Sequence[tuple[int, int]]


class FrameEstimator:
    """Bounds the frames of one module's functions."""

    def __init__(
        self, types: Sequence[DefinedType], function_types: Sequence[FuncType], globals: Sequence[GlobalType]
    ) -> None:
        """Args: types by index; types of all functions by index; types of all globals."""
        self._shapes = ShapeReader(types, function_types)
        # Shapes don't tell one global from another: a single one of this type makes every function a user of v128.
        self._vectors_everywhere = any(entry.content is ValueType.V128 for entry in globals)
        self._segments: dict[bytes, tuple[int, int]] = {}

    def frame(self, code: bytes, start: int, end: int, type: FuncType, locals: int, vectors: bool) -> Frame:
        """Bounds one function.

        Args:
            code: The module, or whatever the offsets refer to.
            start: Where the instructions begin, after the declarations of locals.
            end: Where the body ends.
            type: The function's type.
            locals: How many locals it has, besides its parameters.
            vectors: Whether one of them is a ``v128``.

        Raises:
            MalformedModuleError: Blocks are not balanced, or an index is out of range.
            UnsupportedFeatureError: An unknown opcode, a tail call or an exception.
        """
        shape = self._shapes.read(code, start, end)
        slots = (
            len(type.params)
            + len(type.results)
            + locals
            + self._greatest_height(shape, end)
            + _kept_values(shape.text)
            + shape.longest_call
        )
        vectors = vectors or shape.vectors or self._vectors_everywhere or ValueType.V128 in type.params + type.results
        return Frame(FRAME_CONSTANT + (_VECTOR_SLOT if vectors else _SLOT) * slots, shape.calls)

    def _greatest_height(self, shape: Shape, end: int) -> int:
        """The greatest height of the operand stack."""
        # Of each open block: the height below its parameters, its type, and whether its beginning can be reached.
        blocks = [(0, _VOID, True)]
        block_types = iter(shape.block_types)
        height = greatest = 0
        reachable = True
        for plain, control in _SEGMENTS(shape.text):
            if plain and reachable:
                net, top = self._measure(plain)
                greatest = max(greatest, height + top)
                height += net
            kind = control[0]
            if kind == Op.BLOCK or kind == Op.LOOP:
                blocks.append((height, _VOID, reachable))
            elif kind == Op.END or kind == Op.ELSE:
                if not blocks:
                    raise malformed("an end too many in a function", end)
                below, block_type, reachable = blocks.pop()
                if kind == Op.END:
                    height = below + block_type.pushes
                else:
                    height = below + block_type.pops
                    blocks.append((below, block_type, reachable))
            elif kind == Op.IF:
                height -= 1
                blocks.append((height, _VOID, reachable))
            elif kind == TYPED_BLOCK:
                block_type = next(block_types)
                blocks.append((height - block_type.pops, block_type, reachable))
            else:
                reachable = False
        if blocks:
            raise malformed("a function without its end", end)
        return greatest

    def _measure(self, plain: bytes) -> tuple[int, int]:
        """By how much the height changes along a part of a shape without control, and how far it rises in between."""
        known = self._segments.get(plain)
        if known is None:
            heights = list(accumulate(map(net_effects().__getitem__, plain)))
            known = self._segments[plain] = heights[-1], max(heights)
        return known


_VOID = Effect(0, 0)
_CONTROL_CLASS = opcode_class([int(code) for code in CONTROL])
_SEGMENTS = re.compile(rb"([^" + _CONTROL_CLASS[1:] + rb"*)(" + _CONTROL_CLASS + rb")", re.DOTALL).findall

# nop, drop, reading and writing locals, constants, br_if, and what only moves the height
_NOTHING_COMPUTED = bytes(
    {0x01, 0x0D, 0x1A, 0x20, 0x21, 0x22, 0x41, 0x42, 0x43, 0x44, *CONTROL, TYPED_LOOP, *range(POP, POP + 16)}
)
_LOOPS = bytes([Op.LOOP, TYPED_LOOP])


def _kept_values(text: bytes) -> int:
    """How many values a compiler may keep, of those that the instructions of a shape compute: all that a loop may leave
    as they are; without a loop only those that are computed again, so at most every other one."""
    computed = len(text.translate(None, delete=_NOTHING_COMPUTED))
    has_loop = len(text.translate(None, delete=_LOOPS)) < len(text)
    return computed if has_loop else (computed + 1) // 2
