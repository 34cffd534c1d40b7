"""The fake engine keeps the engine contract."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from extism_engines.engines import api
from extism_engines.errors import (
    EngineNotFoundError,
    InstantiationError,
    LinkError,
    PluginClosedError,
    TrapError,
    TrapKind,
)
from extism_engines.wasm.types import FuncType, GlobalType, ValueType

from .fakes.both import binary, program
from .fakes.engine import create


def test_it_has_no_variants() -> None:
    assert create(None).name == "fake"
    with pytest.raises(EngineNotFoundError):
        create("fast")


class Workshop:
    """A store of the fake engine, with short ways to make things in it."""

    def __init__(self) -> None:
        self.engine = create(None)
        self.store = self.engine.new_store()

    def instance(self, text: str, *imports: api.Extern) -> Any:
        """The exports of a new instance."""
        module = self.engine.compile(binary(text))
        return self.store.instantiate(module, imports).exports

    def calling(self, function: api.HostFunction, params: str = "", results: str = "") -> Any:
        """A guest function that passes its parameters to the host function, and gives its results."""
        type = FuncType([ValueType(name) for name in params.split()], [ValueType(name) for name in results.split()])
        signature = f"(param {params}) (result {results})"
        arguments = " ".join(f"(local.get {index})" for index in range(len(type.params)))
        text = f'(module (import "h" "f" (func $f {signature})) (func (export "g") {signature} (call $f {arguments})))'
        return self.instance(text, self.store.host_function(type, function))["g"]


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def test_numbers_wrap_on_the_way_in_and_come_out_signed(workshop: Workshop) -> None:
    seen: list[Any] = []

    def host(*args: Any) -> Any:
        seen.append(args)
        return (1 << 32) - 1, 1 << 63, 0.1, 3

    guest = workshop.calling(host, "i32 i64 f32 f64", "i32 i64 f32 f64")
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert guest((1 << 35) + (1 << 31), -1 - (1 << 64), 0.1, True) == (-1, -(1 << 63), single, 3.0)
    assert seen == [(-(1 << 31), -1, single, 1.0)]
    assert [type(value) for value in seen[0]] == [int, int, float, float]


@pytest.mark.parametrize(("results", "given"), [("", None), ("", 1), ("i32", 5), ("i32 i64", (1, 2))])
def test_results_of_host_functions(workshop: Workshop, results: str, given: Any) -> None:
    expected = () if not results else given if isinstance(given, tuple) else (given,)
    assert workshop.calling(lambda: given, "", results)() == expected


@pytest.mark.parametrize(
    ("results", "given"),
    [
        ("i32", (5,)),
        ("i32", None),
        ("i32", "5"),
        ("i32", 1.0),
        ("i32", (1, 2)),
        ("f64", "1"),
        ("i32 i32", 1),
        ("i64 i64", (1,)),
    ],
)
def test_results_that_do_not_fit(workshop: Workshop, results: str, given: Any) -> None:
    with pytest.raises(TypeError):
        workshop.calling(lambda: given, "", results)()


@pytest.mark.parametrize("args", [(), (1, 2), ("1",), (None,), (1.5,)])
def test_arguments_that_do_not_fit(workshop: Workshop, args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        workshop.instance('(module (func (export "f") (param i32)))')["f"](*args)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), struct.error("x"), TrapError("x")])
def test_exceptions_of_the_host_come_out_as_they_are(workshop: Workshop, error: BaseException) -> None:
    failing = [True]

    def host() -> None:
        if failing:
            raise error

    guest = workshop.calling(host)
    with pytest.raises(type(error)) as caught:
        guest()
    assert caught.value is error
    failing.clear()
    assert guest() == ()


def test_a_host_function_calls_back_into_the_guest(workshop: Workshop) -> None:
    def host(value: int) -> int:
        (result,) = guest(value - 1) if value > 0 else (100,)
        return result + value

    guest = workshop.calling(host, "i32", "i32")
    assert guest(4) == (110,)


def test_instances_share_what_they_import(workshop: Workshop) -> None:
    provider = workshop.instance(program("provider"))
    given = [provider[name] for name in ("twice", "memory", "counter", "table")]
    consumer = workshop.instance(program("consumer"), *given)
    assert consumer["four_times"](11) == (44,)
    assert provider["memory"].read(100, 6) == b"shared"
    provider["poke"](8, -5)
    assert consumer["load"](8) == (-5,)
    consumer["count"]()
    assert provider["counter"].get() == -2
    provider["counter"].set(1 << 63)
    assert provider["counter"].get() == -(1 << 63)
    assert [consumer["via_table"](index, 7) for index in (0, 1)] == [(14,), (21,)]
    assert provider["table"].size == 2
    assert consumer["grow"](1) == (1,)
    assert provider["memory"].size == consumer["memory_again"].size == 2 * api.PAGE_SIZE
    assert consumer["memory_again"].grow(2) == 2
    provider["memory"].write(4 * api.PAGE_SIZE - 4, b"\1\0\0\0")
    assert consumer["load"](4 * api.PAGE_SIZE - 4) == (1,)
    with pytest.raises(MemoryError):
        provider["memory"].grow(1)
    assert provider["counter"].type == GlobalType(ValueType.I64, mutable=True)
    assert provider["twice"] is provider["twice"]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (65536, 1), (65530, 7), (1 << 70, 0)])
def test_the_host_stays_inside_memory(workshop: Workshop, offset: int, length: int) -> None:
    memory = workshop.instance(program("provider"))["memory"]
    with pytest.raises(IndexError):
        memory.read(offset, length)
    if length >= 0:
        with pytest.raises(IndexError):
            memory.write(offset, b"x" * length)
    assert memory.read(65536, 0) == b""
    assert memory.read(0, 65536) == bytes(65536)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("(func (param i32))", "twice"),
        ("(func)", "memory"),
        ("(memory 2)", "memory"),
        ("(memory 1 3)", "memory"),
        ("(memory 0)", "table"),
        ("(global i64)", "counter"),
        ("(global (mut i32))", "counter"),
        ("(table 3 funcref)", "table"),
        ("(table 1 3 funcref)", "table"),
        ("(table 1 externref)", "table"),
    ],
)
def test_imports_that_do_not_fit(workshop: Workshop, wanted: str, given: str) -> None:
    provider = workshop.instance(program("provider"))
    with pytest.raises(LinkError, match="p::x"):
        workshop.instance(f'(module (import "p" "x" {wanted}))', provider[given])


def test_imports_that_are_missing_or_foreign(workshop: Workshop) -> None:
    text = '(module (import "p" "x" (memory 1)))'
    with pytest.raises(LinkError):
        workshop.instance(text)
    with pytest.raises(LinkError, match="store"):
        workshop.instance(text, Workshop().instance(program("provider"))["memory"])


@pytest.mark.parametrize(
    "text",
    [
        '(module (memory 1) (data (i32.const 65535) "ab"))',
        '(module (memory 0) (data (i32.const -1) ""))',
        "(module (table 1 funcref) (func $f) (elem (i32.const 1) $f))",
        "(module (memory 65536))",
    ],
)
def test_instances_that_cannot_be_made(workshop: Workshop, text: str) -> None:
    with pytest.raises(InstantiationError):
        workshop.instance(text)


def test_segments_before_the_faulty_one_are_written(workshop: Workshop) -> None:
    memory = workshop.instance(program("provider"))["memory"]
    text = '(module (import "p" "m" (memory 1)) (data (i32.const 0) "kept") (data (i32.const 65536) "lost"))'
    with pytest.raises(InstantiationError):
        workshop.instance(text, memory)
    assert memory.read(0, 4) == b"kept"


def test_the_start_function_runs_and_may_trap(workshop: Workshop) -> None:
    calls: list[int] = []
    host = workshop.store.host_function(FuncType(), lambda: calls.append(1))
    workshop.instance('(module (import "h" "f" (func $f)) (start $f))', host)
    assert calls == [1]
    with pytest.raises(TrapError) as caught:
        workshop.instance("(module (func $f unreachable) (start $f))")
    assert caught.value.kind is TrapKind.UNREACHABLE


def test_a_closed_store_refuses(workshop: Workshop) -> None:
    exports = workshop.instance(program("provider"))
    module = workshop.engine.compile(binary("(module)"))
    workshop.store.close()
    uses: list[Callable[[], object]] = [
        lambda: exports["twice"](1),
        lambda: exports["memory"].size,
        lambda: exports["memory"].read(0, 1),
        lambda: exports["memory"].write(0, b""),
        lambda: exports["memory"].grow(0),
        lambda: exports["counter"].get(),
        lambda: exports["counter"].set(1),
        lambda: exports["table"].size,
        lambda: workshop.store.instantiate(module, []),
    ]
    for use in uses:
        with pytest.raises(PluginClosedError):
            use()
