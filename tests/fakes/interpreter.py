"""A WebAssembly interpreter in pure Python: the core of version 2.0 without SIMD, plus extended constant expressions.

It exists to test the rooms above the engines, and as a second opinion on the engines themselves, so it prefers being
clear and exact to being fast. Values are Python ints (unsigned), floats, functions and ``None`` (the null reference).

Calls between functions of guests do not use Python's stack; a host function that calls a guest does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Union

from extism_engines.errors import Frame, InstantiationError, LinkError, TrapError, TrapKind
from extism_engines.wasm.types import (
    ExternType,
    FuncType,
    GlobalType,
    ImportType,
    Limits,
    MemoryType,
    TableType,
)

from .body import Body
from .module import DecodedModule
from .numeric import f32_to_bits
from .opcodes import (
    BINARY,
    BR,
    BR_IF,
    BR_TABLE,
    BR_UNLESS,
    CALL,
    CALL_INDIRECT,
    CONST,
    DROP,
    GLOBAL_GET,
    GLOBAL_SET,
    LOAD_FLOAT,
    LOAD_INT,
    LOCAL_GET,
    LOCAL_SET,
    LOCAL_TEE,
    OTHER,
    RETURN,
    SELECT,
    STORE_FLOAT,
    STORE_INT,
    UNARY,
)

PAGE_SIZE = 65536

MAX_DEPTH = 10_000
"""Calls that may be active at once; one more is a stack overflow."""

MAX_FRAMES = 64
"""Frames, at most, that a trap reports of one entry from the host."""

MAX_PAGES = 4096
"""Pages (256 MiB) that a memory may have here, whatever its type allows: the test machine has to hold them."""

MAX_ELEMENTS = 1_000_000
"""Elements that a table may have here."""


# -- what modules export ---------------------------------------------------------------------------------


class Function:
    """A function: of the host, where :attr:`host` is set, else the body of an instance's."""

    def __init__(
        self,
        type: FuncType,
        host: Callable[[list[Any]], list[Any]] | None = None,
        instance: Instance | None = None,
        body: Body | None = None,
    ) -> None:
        self.type = type
        self.host = host
        self.instance = instance
        self.body = body
        self.arity = len(type.params)


class Memory:
    """A linear memory. Its bytes stay the same object when it grows."""

    def __init__(self, type: MemoryType) -> None:
        self.type = type
        if type.limits.minimum > MAX_PAGES:
            raise InstantiationError(f"a memory of {type.limits.minimum} pages is more than this engine has")
        self.data = bytearray(type.limits.minimum * PAGE_SIZE)

    @property
    def pages(self) -> int:
        return len(self.data) // PAGE_SIZE

    def grow(self, pages: int) -> int | None:
        """The old number of pages, or ``None`` where it cannot grow."""
        old = self.pages
        if old + pages > _ceiling(self.type.limits, MAX_PAGES):
            return None
        self.data.extend(bytes(pages * PAGE_SIZE))
        return old

    def init(self, target: int, source: bytes, start: int, count: int) -> None:
        if start + count > len(source) or target + count > len(self.data):
            raise TrapError(kind=TrapKind.MEMORY_OUT_OF_BOUNDS)
        self.data[target : target + count] = source[start : start + count]


class Table:
    """A table of references."""

    def __init__(self, type: TableType) -> None:
        self.type = type
        if type.limits.minimum > MAX_ELEMENTS:
            raise InstantiationError(f"a table of {type.limits.minimum} elements is more than this engine has")
        self.elements: list[Function | None] = [None] * type.limits.minimum

    def grow(self, count: int, value: Function | None) -> int | None:
        """The old number of elements, or ``None`` where it cannot grow."""
        old = len(self.elements)
        if old + count > _ceiling(self.type.limits, MAX_ELEMENTS):
            return None
        self.elements += [value] * count
        return old

    def init(self, target: int, source: list[Function | None], start: int, count: int) -> None:
        if start + count > len(source) or target + count > len(self.elements):
            raise TrapError(kind=TrapKind.TABLE_OUT_OF_BOUNDS)
        self.elements[target : target + count] = source[start : start + count]


class Global:
    """A global."""

    def __init__(self, type: GlobalType, value: Any) -> None:
        self.type = type
        self.value = value


Extern = Union[Function, Table, Memory, Global]


def _ceiling(limits: Limits, ours: int) -> int:
    return ours if limits.maximum is None else min(limits.maximum, ours)


# -- instances -------------------------------------------------------------------------------------------


class Instance:
    """An instance of a module.

    Args:
        module: The decoded module.
        imports: One for each of its imports, in their order.

    Raises:
        LinkError: The imports do not fit.
        InstantiationError: A segment is out of bounds, a memory or table is too large.
        TrapError: The start function trapped.
    """

    def __init__(self, module: DecodedModule, imports: Sequence[Extern]) -> None:
        _check_imports(module.imports, imports)
        self.functions = [item for item in imports if isinstance(item, Function)]
        self.tables = [item for item in imports if isinstance(item, Table)]
        self.memories = [item for item in imports if isinstance(item, Memory)]
        self.globals = [item for item in imports if isinstance(item, Global)]
        self.functions += [Function(body.type, None, self, body) for body in module.bodies]
        self.tables += [Table(type) for type in module.table_types[module.imported_tables :]]
        self.memories += [Memory(type) for type in module.memory_types[module.imported_memories :]]
        own_globals = module.global_types[module.imported_globals :]
        # All values first: an expression can only see imported globals.
        values = [self._evaluate(value) for value in module.global_values]
        self.globals += map(Global, own_globals, values)
        self.element_segments = [[self._evaluate(item) for item in segment.items] for segment in module.elements]
        self.data_segments: list[bytes] = [segment.items for segment in module.data]
        spaces: tuple[Sequence[Extern], ...] = (self.functions, self.tables, self.memories, self.globals)
        self.exports = {name: spaces[kind][index] for name, (kind, index) in module.exports.items()}
        self._place_segments(module)
        if module.start is not None:
            run(self.functions[module.start], [])

    def _evaluate(self, constant: Body) -> Any:
        return run(Function(constant.type, None, self, constant), [])[0]

    def _place_segments(self, module: DecodedModule) -> None:
        try:
            for index, segment in enumerate(module.elements):
                if segment.offset is not None and segment.target is not None:
                    items = self.element_segments[index]
                    self.tables[segment.target].init(self._evaluate(segment.offset), items, 0, len(items))
                if segment.offset is not None or segment.declarative:
                    self.element_segments[index] = []
            for index, segment in enumerate(module.data):
                if segment.offset is not None and segment.target is not None:
                    items = segment.items
                    self.memories[segment.target].init(self._evaluate(segment.offset), items, 0, len(items))
                    self.data_segments[index] = b""
        except TrapError as error:
            raise InstantiationError(f"a segment does not fit: {error.kind.value}") from error


def _check_imports(wanted: Sequence[ImportType], given: Sequence[Extern]) -> None:
    if len(wanted) != len(given):
        raise LinkError(f"{len(wanted)} imports are needed, {len(given)} were given")
    for entry, item in zip(wanted, given, strict=True):
        if not _fits(entry.type, item):
            raise LinkError(f"incompatible import type for {entry.module}::{entry.name}: needs {entry.type}")


def _fits(wanted: ExternType, given: Extern) -> bool:
    if isinstance(wanted, MemoryType):
        return isinstance(given, Memory) and _limits_fit(wanted.limits, given.pages, given.type.limits)
    if isinstance(wanted, TableType):
        return (
            isinstance(given, Table)
            and wanted.element is given.type.element
            and _limits_fit(wanted.limits, len(given.elements), given.type.limits)
        )
    return isinstance(given, (Function, Global)) and wanted == given.type


def _limits_fit(wanted: Limits, size: int, given: Limits) -> bool:
    if size < wanted.minimum:
        return False
    return wanted.maximum is None or (given.maximum is not None and given.maximum <= wanted.maximum)


# -- running ---------------------------------------------------------------------------------------------


def run(function: Function, arguments: list[Any]) -> list[Any]:
    """Calls a function with values of its types; gives its results.

    Raises:
        TrapError: With the frames, innermost first.
        BaseException: Whatever a host function raised.
    """
    if function.host is not None:
        return function.host(arguments)
    active: list[Function] = []
    try:
        return _interpret(function, arguments, active)
    except TrapError as error:
        innermost = active[: -MAX_FRAMES - 1 : -1]
        error.frames += tuple(Frame(each.body.index) for each in innermost if each.body and each.body.index >= 0)
        raise


def _callee(tables: list[Table], table: int, index: int, expected: FuncType) -> Function:
    elements = tables[table].elements
    if index >= len(elements):
        raise TrapError(kind=TrapKind.TABLE_OUT_OF_BOUNDS)
    callee = elements[index]
    if callee is None:
        raise TrapError(kind=TrapKind.INDIRECT_CALL_TO_NULL)
    if callee.type is not expected and callee.type != expected:
        raise TrapError(kind=TrapKind.BAD_SIGNATURE)
    return callee


def _interpret(function: Function, locals: list[Any], active: list[Function]) -> list[Any]:
    """The loop. ``active`` holds the functions being run, and is left as it was when an exception came."""
    callers: list[tuple[Function, int, list[Any], list[Any]]] = []
    body = function.body
    assert body is not None
    locals += body.zeros
    active.append(function)
    stack: list[Any] = []
    pc = 0
    while True:  # once per change of function
        body, instance = function.body, function.instance
        assert body is not None and instance is not None
        code = body.code
        functions, global_variables = instance.functions, instance.globals
        data = instance.memories[0].data if instance.memories else bytearray()
        while True:  # once per instruction
            op, a, b, c = code[pc]
            pc += 1
            if op == LOCAL_GET:
                stack.append(locals[a])
            elif op == CONST:
                stack.append(a)
            elif op == BINARY:
                right = stack.pop()
                stack[-1] = a(stack[-1], right)
            elif op == LOCAL_SET:
                locals[a] = stack.pop()
            elif op == LOCAL_TEE:
                locals[a] = stack[-1]
            elif op == LOAD_INT:
                try:
                    stack[-1] = a.unpack_from(data, stack[-1] + b)[0] & c
                except struct.error:
                    raise TrapError(kind=TrapKind.MEMORY_OUT_OF_BOUNDS) from None
            elif op == STORE_INT:
                value = stack.pop()
                try:
                    a.pack_into(data, stack.pop() + b, value & c)
                except struct.error:
                    raise TrapError(kind=TrapKind.MEMORY_OUT_OF_BOUNDS) from None
            elif op == UNARY:
                stack[-1] = a(stack[-1])
            elif op == BR_IF:
                if stack.pop():
                    pc, kept, height = a
                    del stack[height : len(stack) - kept]
            elif op == BR:
                pc, kept, height = a
                del stack[height : len(stack) - kept]
            elif op == BR_UNLESS:
                if not stack.pop():
                    pc = a[0]
            elif op in (CALL, CALL_INDIRECT):
                callee = functions[a] if op == CALL else _callee(instance.tables, a, stack.pop(), b)
                start = len(stack) - callee.arity
                arguments = stack[start:]
                del stack[start:]
                if callee.host is not None:
                    stack += callee.host(arguments)
                    continue
                if len(active) >= MAX_DEPTH:
                    raise TrapError(kind=TrapKind.STACK_OVERFLOW)
                assert callee.body is not None
                callers.append((function, pc, locals, stack))
                active.append(callee)
                function, pc, locals, stack = callee, 0, arguments + callee.body.zeros, []
                break
            elif op == RETURN:
                active.pop()
                if not callers:
                    return stack
                results = stack
                function, pc, locals, stack = callers.pop()
                stack += results
                break
            elif op == GLOBAL_GET:
                stack.append(global_variables[a].value)
            elif op == GLOBAL_SET:
                global_variables[a].value = stack.pop()
            elif op == DROP:
                stack.pop()
            elif op == SELECT:
                if stack.pop():
                    stack.pop()
                else:
                    stack[-2:] = stack[-1:]
            elif op == BR_TABLE:
                index = stack.pop()
                pc, kept, height = a[index] if index < len(a) else b
                del stack[height : len(stack) - kept]
            elif op == LOAD_FLOAT:
                try:
                    stack[-1] = c(a.unpack_from(data, stack[-1] + b)[0])
                except struct.error:
                    raise TrapError(kind=TrapKind.MEMORY_OUT_OF_BOUNDS) from None
            elif op == STORE_FLOAT:
                value = f32_to_bits(stack.pop()) if c else stack.pop()
                try:
                    a.pack_into(data, stack.pop() + b, value)
                except struct.error:
                    raise TrapError(kind=TrapKind.MEMORY_OUT_OF_BOUNDS) from None
            elif op == OTHER:
                a(instance, stack, b, c)
            else:
                raise TrapError(kind=TrapKind.UNREACHABLE)
