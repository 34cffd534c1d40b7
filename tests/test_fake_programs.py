"""Programs do on the fake engine what they do on wasmtime: control flow, memory, tables."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest

from extism_engines.engines import api
from extism_engines.errors import TrapError, TrapKind

from .fakes.both import Both, Outcome, program

# -- control flow --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def control() -> Both:
    return Both(program("control"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("globals", [(1,), (3,), (-1,), (0,)]),
        ("factorial", [(0,), (1,), (5,), (20,), (30,)]),
        ("sum", [(0,), (1,), (100,)]),
        ("switch", [(0,), (1,), (2,), (3,), (4,), (5,), (-1,)]),
        ("switch_value", [(0,), (1,), (2,), (-1,)]),
        ("leave_junk", [(0,), (1,)]),
        ("two", [(1, 2)]),
        ("block_params", [(10, 4), (4, 10)]),
        ("if_without_else", [(0, 6), (1, 6)]),
        ("loop_params", [(1,), (5,), (10,)]),
        ("dead_code", [(0,), (12,)]),
        ("trap_if", [(0,), (1,), (-1,)]),
        ("select", [(0, 1.5, -0.0), (1, 1.5, -0.0), (-1, math.nan, 1.0)]),
        ("select_ref", [(0,), (1,)]),
        ("even", [(0,), (7,), (1000,)]),
        ("ackermann", [(0, 3), (2, 3)]),
        ("forever", [(0,)]),
        ("locals", [()]),
    ],
)
def test_control_flow(control: Both, name: str, arguments: list[tuple[Any, ...]]) -> None:
    control.check_all(name, arguments)


def test_a_stack_overflow_is_a_trap_and_leaves_the_instance_usable(control: Both) -> None:
    assert control.check("forever", 1) is TrapKind.STACK_OVERFLOW
    assert control.check("factorial", 5) == (120,)


def test_a_trap_names_the_frames_innermost_first() -> None:
    both = Both('(module (func $a unreachable) (func $b (call $a)) (func (export "f") (call $b) (call $a)))')
    function = both.fake.instance.exports["f"]
    assert isinstance(function, api.Func)
    with pytest.raises(TrapError) as caught:
        function()
    assert [frame.function_index for frame in caught.value.frames] == [0, 1, 2]


# -- memory --------------------------------------------------------------------------------------------

_ACCESSES = {
    "i32": "load load8_s load8_u load16_s load16_u store store8 store16",
    "i64": "load load8_s load8_u load16_s load16_u load32_s load32_u store store8 store16 store32",
    "f32": "load store",
    "f64": "load store",
}


def _access_text(kind: str, access: str, offset: int) -> str:
    name = f"{kind}.{access}"
    bits = {"f32": "i32", "f64": "i64"}.get(kind, kind)
    if "load" in access:
        value = f"({name} offset={offset} (local.get 0))"
        value = value if bits == kind else f"({bits}.reinterpret_{kind} {value})"
        return f'(func (export "{name} {offset}") (param i32) (result {bits}) {value})'
    value = "(local.get 1)" if bits == kind else f"({kind}.reinterpret_{bits} (local.get 1))"
    return f'(func (export "{name} {offset}") (param i32 {bits}) ({name} offset={offset} (local.get 0) {value}))'


_OFFSETS = (0, 1, 65535, 4294967295)


def _with_accesses(text: str) -> str:
    """The module with functions for all loads and stores put in at its end."""
    accesses = [
        _access_text(kind, access, offset)
        for kind, names in _ACCESSES.items()
        for access, offset in product(names.split(), _OFFSETS)
    ]
    return "\n".join([text.rstrip().removesuffix(")"), *accesses, ")"])


@pytest.fixture
def memory() -> Both:
    return Both(program("memory"))


def test_loads_and_stores_at_the_edges() -> None:
    memory = Both(_with_accesses(program("memory")))
    outcomes = set()
    for kind, accesses in _ACCESSES.items():
        for access, offset in product(accesses.split(), _OFFSETS):
            for address in (0, 1, 3, *range(65526, 65538), -1, -2, 1 << 31):
                if "load" in access:
                    outcomes.add(memory.check(f"{kind}.{access} {offset}", address))
                    continue
                for value in (0x0123_4567_89AB_CDEF, -2, 0x7FF0_0000_7FA0_0001):
                    wide = value if kind in ("i64", "f64") else (value & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
                    memory.check(f"{kind}.{access} {offset}", address, wide)
                    memory.check_all("peek", [(0,), (8,), (65528,)])
    assert TrapKind.MEMORY_OUT_OF_BOUNDS in outcomes and len(outcomes) > 20


def test_growing(memory: Both) -> None:
    assert memory.check_all("grow", [(0,), (1,), (2,), (-1,), (65536,), (1,), (1,)]) == [
        *[(1,), (1,), (-1,), (-1,), (-1,), (2,), (-1,)],
    ]
    assert memory.check("size") == (3,)
    assert memory.check("peek", 3 * 65536 - 8) == (0,)
    assert memory.check("peek", 3 * 65536 - 7) is TrapKind.MEMORY_OUT_OF_BOUNDS


@pytest.mark.parametrize(
    ("name", "args"),
    [
        *[("fill", args) for args in product((8, 65530, 65536, 65537, -1), (0x1AB, -1), (0, 5, 6, 7, -1))],
        *[("copy", args) for args in product((0, 3, 65530, 65536), (0, 2, 65531, 65536, -1), (0, 5, 6, 7, -1))],
        *[("init", args) for args in product((0, 65532, 65536, 65537), (0, 4, 8, 9), (0, 4, 5, 8, -1))],
    ],
)
def test_bulk_memory(bulk_memory: Both, name: str, args: tuple[int, ...]) -> None:
    bulk_memory.check(name, *args)
    bulk_memory.check_all("peek", [(0,), (8,), (65528,), (65522,)])


@pytest.fixture(scope="module")
def bulk_memory() -> Both:
    return Both(program("memory"))


def test_a_dropped_segment_is_empty(memory: Both) -> None:
    assert memory.check_all("init_active", [(0,), (1,)]) == [(), TrapKind.MEMORY_OUT_OF_BOUNDS]
    assert memory.check("init", 0, 0, 8) == ()
    assert memory.check("drop") == ()
    assert memory.check("init", 0, 0, 1) is TrapKind.MEMORY_OUT_OF_BOUNDS
    assert memory.check("init", 0, 0, 0) == ()


# -- tables --------------------------------------------------------------------------------------------


def test_tables() -> None:
    both = Both(program("tables"))

    def calls() -> list[Outcome]:
        both.check_all("call_u", [(index, 7) for index in range(4)])
        return both.check_all("call", [(index, 7) for index in (*range(8), 25, -1)])

    first = calls()
    assert {kind for kind in first if isinstance(kind, TrapKind)} == {
        *(TrapKind.TABLE_OUT_OF_BOUNDS, TrapKind.INDIRECT_CALL_TO_NULL, TrapKind.BAD_SIGNATURE),
    }
    steps: list[tuple[Any, ...]] = [
        ("is_null", 0),
        ("is_null", 1),
        ("is_null", 6),
        ("set", 0),
        ("set", 6),
        ("grow", 3),
        ("grow", 12),
    ]
    steps += [("size",), ("grow", 0), ("grow", -1), ("fill", 4, 2), ("fill", 8, 2), ("fill", 9, 0), ("fill", 10, 0)]
    steps += [("copy", 0, 1, 3), ("copy", 1, 0, 4), ("copy", 8, 0, 2), ("copy", 9, 9, 0), ("copy_u", 0, 0, 3)]
    steps += [("copy_u", 1, 0, 3), ("init", 0, 0, 2), ("init", 7, 1, 1), ("init", 8, 0, 2), ("init", 0, 2, 1)]
    steps += [("init_exprs", 3, 0, 2), ("drop",), ("init", 0, 0, 0), ("init", 0, 0, 1)]
    steps += [("init_active", 0), ("init_active", 1), ("init_declared", 0), ("init_declared", 1)]
    for name, *args in steps:
        both.check(name, *args)
        calls()
