"""The stack budget: functions that count the bytes of their frames.

A mutable ``i32`` global, imported and thereby shared by all modules of a store, holds how many bytes of stack are left
for a function that is called now. A function begins with::

    global.get $stack
    i32.const FRAME          ;; bytes, from extism_engines.wasm.stack
    i32.sub
    local.tee $left          ;; a local added for this
    i32.const 0
    i32.lt_s
    if
      local.get $left
      global.set $stack      ;; so that the host can tell this from an `unreachable` of the module's own
      unreachable
    end

and before each call that may come back to a function which counts, it says what is left for that one::

    local.get $left
    global.set $stack

So nobody has to add back what it took: whoever calls next sets the global again. Only an exported function, which the
host may call, restores it after each call, and the host finds the global as it was. After a trap the host sets it
itself.

Why so: on PyPI Wasmer's Cranelift a recursive fib takes 1.2 times as long as without a budget. Counting down and up
again in the global, be it around every call or at entry and exit, makes it 1.8 to 2.0, because each addition has to
wait for the one before; and around calls it takes twice the code.

Small leaf functions neither count nor are counted for, nor are imports that are known to return without calling back.
What they take must be left free by whoever fills the global: :attr:`StackBudget.reserve`.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ..errors import UnsupportedFeatureError
from .binary import Cursor, encode_signed, encode_unsigned
from .code import Body, read_bodies, walk
from .declarations import DeclarationDecoder
from .edits import Edit, apply_edits
from .opcodes import Op
from .reader import ModuleSummary
from .sections import SectionId
from .shapes import CALLS
from .stack import FRAME_CONSTANT, MAX_FRAME, Frame, FrameEstimator
from .types import FuncType, GlobalType, ValueType

LEAF_FRAME = 4096
"""Bytes: leaf functions with a larger frame are counted like others."""

_I32 = 0x7F
_VOID = 0x40


@attrs.frozen
class _Function:
    """A function that the module defines: its body, and what its header says."""

    index: int
    type: FuncType
    body: Body
    locals: int
    vectors: bool
    declarations: bytes
    start: int


class StackBudget:
    """Makes the functions of one module count."""

    def __init__(self, wasm: bytes, summary: ModuleSummary, leaf_imports: frozenset[tuple[str, str]]) -> None:
        """Args: the module, what it declares, and module and name of imports that never call back."""
        self._wasm = wasm
        self._summary = summary
        self._imported = summary.imported(FuncType)
        self._first_defined_global = len(summary.imported(GlobalType))
        types = [entry.type for entry in self._imported if isinstance(entry.type, FuncType)]
        types += [_function_type(summary, index) for index in summary.functions]
        self._types = types
        self._estimator = FrameEstimator(
            summary.types,
            types,
            [entry.type for entry in summary.imported(GlobalType) if isinstance(entry.type, GlobalType)]
            + list(summary.globals),
        )
        self.reserve = 2 * LEAF_FRAME
        """Bytes of stack that must lie below a budget of 0: enough for the one function whose check fails, when its
        frame is already there, or for a small function that does not count and the leaf that it calls. What host
        functions need comes on top. Known after :meth:`rewrite`."""
        self._called_from_outside = _called_from_outside(wasm, summary)
        # Functions that need not be told what is left, by index.
        self._free = {index for index, entry in enumerate(self._imported) if (entry.module, entry.name) in leaf_imports}

    def rewrite(self) -> bytes | None:
        """The new content of the code section, or ``None`` when no function has to count. It refers to the global of
        the budget as the last imported one; all defined globals have moved up by one.

        Raises:
            MalformedModuleError: The code is malformed.
            UnsupportedFeatureError: A frame above :data:`MAX_FRAME`, an unknown opcode, a tail call or an exception.
        """
        section = self._summary.section(SectionId.CODE)
        if section is None:
            return None
        functions = list(self._functions(section.cursor(self._wasm)))
        counting = [function for function in functions if not self._is_small_leaf(function)]
        self._free.update({function.index for function in functions} - {function.index for function in counting})
        bodies = {function.index: self._count_stack(function) for function in counting}
        if not any(bodies.values()):
            return None
        parts = [encode_unsigned(len(functions))]
        for function in functions:
            body = bodies.get(function.index) or self._shift_globals(function)
            parts += (encode_unsigned(len(body)), body)
        return b"".join(parts)

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """Index and frame of every function that the module defines."""
        section = self._summary.section(SectionId.CODE)
        if section is not None:
            for function in self._functions(section.cursor(self._wasm)):
                yield function.index, self._frame(function)

    def moved_globals(self, start: int, end: int) -> list[Edit]:
        """The edits that move defined globals up by one in some instructions."""
        wasm, first = self._wasm, self._first_defined_global
        edits: list[Edit] = []
        for _, at, after in walk(wasm, start, end, _GLOBAL_ACCESS):
            index = wasm[at + 1] if after == at + 2 else Cursor(wasm, at + 1, after).u32()
            if index >= first:
                edits.append(Edit(at + 1, after, encode_unsigned(index + 1)))
        return edits

    def _functions(self, cursor: Cursor) -> Iterator[_Function]:
        first = len(self._imported)
        for index, body in enumerate(read_bodies(cursor), first):
            inside = Cursor(self._wasm, body.locals, body.end)
            decoder = DeclarationDecoder(inside, set())
            groups = inside.count()
            declarations = inside.pos
            locals = 0
            vectors = False
            for _ in range(groups):
                locals += inside.u32()
                vectors = decoder.value_type() is ValueType.V128 or vectors
            raw = self._wasm[declarations : inside.pos]
            yield _Function(
                index,
                self._types[index],
                body,
                locals,
                vectors,
                encode_unsigned(groups + 1) + raw + bytes([1, _I32]),
                inside.pos,
            )

    def _is_small_leaf(self, function: _Function) -> bool:
        if next(walk(self._wasm, function.start, function.body.end, CALLS), None) is not None:
            return False
        # A byte of code gives two slots at most, which settles nearly all cases.
        slots = len(function.type.params) + function.locals + 2 * (function.body.end - function.start)
        return FRAME_CONSTANT + 16 * slots <= LEAF_FRAME or self._frame(function).size <= LEAF_FRAME

    def _frame(self, function: _Function) -> Frame:
        frame = self._estimator.frame(
            self._wasm,
            function.start,
            function.body.end,
            function.type,
            function.locals + 1,
            function.vectors,
        )
        if frame.size > MAX_FRAME:
            raise UnsupportedFeatureError(
                f"function {function.index} may take {frame.size} bytes of stack; where stack is counted, "
                f"{MAX_FRAME} are the limit"
            )
        return frame

    def _count_stack(self, function: _Function) -> bytes | None:
        """The body with its check and its announcements; ``None`` for a small function that calls nobody who counts."""
        frame = self._frame(function)
        calls = [(at, after) for at, after in frame.calls if not self._is_free(at)]
        if not calls and frame.size <= LEAF_FRAME:
            return None
        self.reserve = max(self.reserve, frame.size)
        left = encode_unsigned(len(function.type.params) + function.locals)
        stack = encode_unsigned(self._first_defined_global)
        size = bytes([Op.I32_CONST]) + encode_signed(frame.size)
        get_left = bytes([Op.LOCAL_GET]) + left
        set_stack = bytes([Op.GLOBAL_SET]) + stack
        announce = get_left + set_stack
        check = b"".join(
            (
                bytes([Op.GLOBAL_GET]) + stack,
                size,
                bytes([Op.I32_SUB, Op.LOCAL_TEE]) + left,
                bytes([Op.I32_CONST, 0, Op.I32_LT_S, Op.IF, _VOID]),
                announce,
                bytes([Op.UNREACHABLE, Op.END]),
            )
        )
        restore = get_left + size + bytes([Op.I32_ADD]) + set_stack
        edits = self.moved_globals(function.start, function.body.end)
        for at, after in calls:
            edits.append(Edit(at, at, announce))
            if function.index in self._called_from_outside:
                edits.append(Edit(after, after, restore))
        return function.declarations + check + apply_edits(self._wasm, function.start, function.body.end, edits)

    def _is_free(self, at: int) -> bool:
        return self._wasm[at] == Op.CALL and Cursor(self._wasm, at + 1).u32() in self._free

    def _shift_globals(self, function: _Function) -> bytes:
        body = function.body
        edits = self.moved_globals(function.start, body.end)
        return apply_edits(self._wasm, body.locals, body.end, edits)


_GLOBAL_ACCESS = frozenset({Op.GLOBAL_GET, Op.GLOBAL_SET})


def _function_type(summary: ModuleSummary, type_index: int) -> FuncType:
    found = summary.types[type_index]
    assert isinstance(found, FuncType)  # the reader checked it
    return found


def _called_from_outside(wasm: bytes, summary: ModuleSummary) -> frozenset[int]:
    """Indices of the functions that the host may call: exported ones, and the start function."""
    indices = set() if summary.start is None else {summary.start}
    section = summary.section(SectionId.EXPORT)
    if section is not None:
        cursor = section.cursor(wasm)
        for _ in range(cursor.count()):
            cursor.name()
            kind, index = cursor.byte(), cursor.u32()
            if kind == 0:
                indices.add(index)
    return frozenset(indices)
