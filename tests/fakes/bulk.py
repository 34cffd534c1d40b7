"""The rarer instructions, on whole stretches of memories and tables: each takes its operands from the stack.

``a`` and ``b`` are the immediates: indices of a table, a segment, a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extism_engines.errors import TrapError, TrapKind

if TYPE_CHECKING:
    from .interpreter import Instance

Stack = list[Any]

_MINUS_ONE = 0xFFFF_FFFF


def _check(fits: bool, kind: TrapKind) -> None:
    if not fits:
        raise TrapError(kind=kind)


def _three(stack: Stack) -> tuple[int, Any, int]:
    count, source, target = stack.pop(), stack.pop(), stack.pop()
    return target, source, count


def memory_size(instance: Instance, stack: Stack, a: int, b: int) -> None:
    stack.append(instance.memories[0].pages)


def memory_grow(instance: Instance, stack: Stack, a: int, b: int) -> None:
    old = instance.memories[0].grow(stack.pop())
    stack.append(_MINUS_ONE if old is None else old)


def memory_fill(instance: Instance, stack: Stack, a: int, b: int) -> None:
    target, value, count = _three(stack)
    data = instance.memories[0].data
    _check(target + count <= len(data), TrapKind.MEMORY_OUT_OF_BOUNDS)
    data[target : target + count] = bytes([value & 0xFF]) * count


def memory_copy(instance: Instance, stack: Stack, a: int, b: int) -> None:
    target, source, count = _three(stack)
    data = instance.memories[0].data
    _check(max(target, source) + count <= len(data), TrapKind.MEMORY_OUT_OF_BOUNDS)
    data[target : target + count] = data[source : source + count]


def memory_init(instance: Instance, stack: Stack, a: int, b: int) -> None:
    target, source, count = _three(stack)
    instance.memories[0].init(target, instance.data_segments[a], source, count)


def data_drop(instance: Instance, stack: Stack, a: int, b: int) -> None:
    instance.data_segments[a] = b""


def ref_func(instance: Instance, stack: Stack, a: int, b: int) -> None:
    stack.append(instance.functions[a])


def table_get(instance: Instance, stack: Stack, a: int, b: int) -> None:
    index, elements = stack.pop(), instance.tables[a].elements
    _check(index < len(elements), TrapKind.TABLE_OUT_OF_BOUNDS)
    stack.append(elements[index])


def table_set(instance: Instance, stack: Stack, a: int, b: int) -> None:
    value, index, elements = stack.pop(), stack.pop(), instance.tables[a].elements
    _check(index < len(elements), TrapKind.TABLE_OUT_OF_BOUNDS)
    elements[index] = value


def table_size(instance: Instance, stack: Stack, a: int, b: int) -> None:
    stack.append(len(instance.tables[a].elements))


def table_grow(instance: Instance, stack: Stack, a: int, b: int) -> None:
    count, value = stack.pop(), stack.pop()
    old = instance.tables[a].grow(count, value)
    stack.append(_MINUS_ONE if old is None else old)


def table_fill(instance: Instance, stack: Stack, a: int, b: int) -> None:
    target, value, count = _three(stack)
    elements = instance.tables[a].elements
    _check(target + count <= len(elements), TrapKind.TABLE_OUT_OF_BOUNDS)
    elements[target : target + count] = [value] * count


def table_copy(instance: Instance, stack: Stack, a: int, b: int) -> None:
    target, source, count = _three(stack)
    instance.tables[a].init(target, instance.tables[b].elements, source, count)


def table_init(instance: Instance, stack: Stack, a: int, b: int) -> None:
    target, source, count = _three(stack)
    instance.tables[a].init(target, instance.element_segments[b], source, count)


def elem_drop(instance: Instance, stack: Stack, a: int, b: int) -> None:
    instance.element_segments[a] = []
