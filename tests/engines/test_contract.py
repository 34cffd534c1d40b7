"""The engine contract, on every engine."""

from __future__ import annotations

import gc
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest

from extism_engines import errors
from extism_engines.engines import api
from extism_engines.errors import TrapKind
from extism_engines.wasm.types import FuncType, GlobalType, MemoryType, TableType

from ..support import F32, F64, HANDLE_TO_HANDLE, I32, I64, binary, func, instance, memory

NUMBERS = """(module
  (func (export "i32") (param i32) (result i32) local.get 0)
  (func (export "i64") (param i64) (result i64) local.get 0)
  (func (export "f32") (param f32) (result f32) local.get 0)
  (func (export "f64") (param f64) (result f64) local.get 0)
  (func (export "none"))
  (func (export "mixed") (param i32 i64 f32 f64) (result f64)
    (f64.add (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
             (f64.add (f64.promote_f32 (local.get 2)) (local.get 3)))))"""


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("i32", 7, 7),
        ("i32", 2**31, -(2**31)),
        ("i32", 2**32 + 5, 5),
        ("i32", -1, -1),
        ("i32", -(2**40) + 3, 3),
        ("i64", -(2**63), -(2**63)),
        ("i64", 2**64 - 1, -1),
        ("i64", 2**70 + 9, 9),
        ("f32", 1.5, 1.5),
        ("f32", 3, 3.0),
        ("f32", 0.1, 0.10000000149011612),
        ("f32", 1e300, math.inf),
        ("f32", -1e300, -math.inf),
        ("f64", math.inf, math.inf),
        ("f64", -2, -2.0),
    ],
)
def test_numbers_pass_and_wrap(engine: api.Engine, store: api.Store, name: str, given: float, expected: float) -> None:
    result = func(instance(store, engine, NUMBERS)[name])(given)
    assert result == (expected,)
    assert type(result[0]) is type(expected)


def test_all_kinds_of_arguments_at_once(engine: api.Engine, store: api.Store) -> None:
    exports = instance(store, engine, NUMBERS)
    assert func(exports["mixed"])(-1, 2, 0.5, 0.25) == (1.75,)
    assert func(exports["none"])() == ()


def test_wrong_arguments_are_type_errors(engine: api.Engine, store: api.Store) -> None:
    exports = instance(store, engine, NUMBERS)
    for name, args in [
        ("i32", ()),
        ("i32", (1, 2)),
        ("i32", ("1",)),
        ("i64", (1.5,)),
        ("f64", ("x",)),
        ("i64", (None,)),
    ]:
        with pytest.raises(TypeError):
            func(exports[name])(*args)
    assert func(exports["i32"])(1) == (1,)


MANY_RESULTS = """(module
  (import "" "host" (func $host (param i64) (result f64 i32 i64)))
  (func (export "f") (param i64) (result f64 i32 i64) (call $host (local.get 0))))"""


def test_several_results(engine: api.Engine, store: api.Store) -> None:
    if "multi-value" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no multi-value")
    type = FuncType((I64,), (F64, I32, I64))
    host = store.host_function(type, lambda x: (1, 2**32 - 1, x + 2**63))
    assert func(instance(store, engine, MANY_RESULTS, host)["f"])(5) == (1.0, -1, 5 - 2**63)


HOST = """(module
  (import "" "host" (func $host (param i64) (result i64)))
  (func (export "f") (param i64) (result i64) (call $host (local.get 0))))"""


class Oops(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize(
    "make", [ValueError, RuntimeError, KeyError, Oops, KeyboardInterrupt, SystemExit, StopIteration]
)
def test_a_host_exception_comes_out_as_the_same_object(
    engine: api.Engine, store: api.Store, make: Callable[[str], BaseException]
) -> None:
    raised = make("unreachable")

    def host(x: int) -> int:
        if x:
            raise raised
        return 1

    exports = instance(store, engine, HOST, store.host_function(HANDLE_TO_HANDLE, host))
    for _ in range(3):
        with pytest.raises(type(raised)) as caught:
            func(exports["f"])(1)
        assert caught.value is raised
        assert func(exports["f"])(0) == (1,)
    assert "host" in [entry.name for entry in caught.traceback]


def test_a_host_exception_in_floats_and_in_no_result(engine: api.Engine, store: api.Store) -> None:
    raised = OSError("gone")

    def host(*_: Any) -> None:
        raise raised

    text = '(module (import "" "h" (func $h (param f32 f64 i32))) (func (export "f") (call $h (f32.const 1) (f64.const 2) (i32.const 3))))'
    exports = instance(store, engine, text, store.host_function(FuncType((F32, F64, I32)), host))
    with pytest.raises(OSError) as caught:
        func(exports["f"])()
    assert caught.value is raised


@pytest.mark.parametrize("given", [None, "1", 1.5, (1, 2), (1,), ()])
def test_a_host_result_of_the_wrong_type_is_a_type_error(engine: api.Engine, store: api.Store, given: Any) -> None:
    exports = instance(store, engine, HOST, store.host_function(HANDLE_TO_HANDLE, lambda _x: given))
    with pytest.raises(TypeError):
        func(exports["f"])(0)


@pytest.mark.parametrize(("given", "expected"), [(2**63, -(2**63)), (2**64 + 1, 1), (-1, -1), (True, 1)])
def test_a_host_result_wraps(engine: api.Engine, store: api.Store, given: int, expected: int) -> None:
    exports = instance(store, engine, HOST, store.host_function(HANDLE_TO_HANDLE, lambda _x: given))
    assert func(exports["f"])(0) == (expected,)


def test_host_functions_get_signed_integers(engine: api.Engine, store: api.Store) -> None:
    seen: list[Any] = []
    text = """(module (import "" "h" (func $h (param i32 i64 f32)))
      (func (export "f") (call $h (i32.const 0xffffffff) (i64.const 0xfffffffffffffffe) (f32.const 0.5))))"""
    host = store.host_function(FuncType((I32, I64, F32)), lambda *args: seen.append(args))
    func(instance(store, engine, text, host)["f"])()
    assert seen == [(-1, -2, 0.5)]


def test_a_host_function_may_call_the_instance(engine: api.Engine, store: api.Store) -> None:
    exports: dict[str, Any] = {}

    def host(x: int) -> int:
        return func(exports["f"])(x - 1)[0] + 1 if x else 100

    exports.update(instance(store, engine, HOST, store.host_function(HANDLE_TO_HANDLE, host)))
    assert func(exports["f"])(10) == (110,)


TRAPS = """(module
  (memory 1) (table 2 funcref) (elem (i32.const 1) $nothing)
  (func $nothing)
  (type $other (func (param i32)))
  (func (export "unreachable") unreachable)
  (func (export "memory") (drop (i32.load (i32.const 65536))))
  (func (export "fill") (memory.fill (i32.const 65000) (i32.const 0) (i32.const 1000)))
  (func (export "divide") (drop (i32.div_u (i32.const 1) (i32.const 0))))
  (func (export "overflow") (drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1))))
  (func (export "nan") (drop (i32.trunc_f64_s (f64.const nan))))
  (func (export "large") (drop (i32.trunc_f64_s (f64.const 1e20))))
  (func (export "null") (call_indirect (i32.const 0)))
  (func (export "table") (call_indirect (i32.const 9)))
  (func (export "signature") (call_indirect (type $other) (i32.const 7) (i32.const 1)))
  (func (export "fine") (result i32) (i32.const 42)))"""

KINDS = {
    "unreachable": TrapKind.UNREACHABLE,
    "memory": TrapKind.MEMORY_OUT_OF_BOUNDS,
    "fill": TrapKind.MEMORY_OUT_OF_BOUNDS,
    "divide": TrapKind.INTEGER_DIVIDE_BY_ZERO,
    "overflow": TrapKind.INTEGER_OVERFLOW,
    "nan": TrapKind.BAD_CONVERSION_TO_INTEGER,
    "large": TrapKind.INTEGER_OVERFLOW,
    "null": TrapKind.INDIRECT_CALL_TO_NULL,
    "table": TrapKind.TABLE_OUT_OF_BOUNDS,
    "signature": TrapKind.BAD_SIGNATURE,
}


@pytest.mark.parametrize("name", KINDS)
def test_traps_have_the_same_kind_and_text_everywhere(engine: api.Engine, store: api.Store, name: str) -> None:
    exports = instance(store, engine, TRAPS)
    with pytest.raises(errors.TrapError) as caught:
        func(exports[name])()
    assert caught.value.kind is KINDS[name]
    assert str(caught.value) == f"wasm trap: {KINDS[name].value}"
    assert func(exports["fine"])() == (42,)


def test_memory_is_checked(engine: api.Engine, store: api.Store) -> None:
    exports = instance(
        store, engine, '(module (memory (export "m") 1 3) (func (export "size") (result i32) memory.size))'
    )
    mem = memory(exports["m"])
    assert (mem.size, mem.read(65535, 1), mem.read(65536, 0)) == (65536, b"\0", b"")
    mem.write(65530, b"abcdef")
    assert mem.read(65530, 6) == b"abcdef"
    for offset, length in [(65536, 1), (65535, 2), (-1, 1), (0, 65537), (2**40, 1), (-5, 0)]:
        with pytest.raises(IndexError):
            mem.read(offset, length)
    with pytest.raises(IndexError):
        mem.write(65535, b"xy")
    assert mem.read(65535, 1) == b"f"
    assert mem.grow(1) == 1
    assert mem.size == 131072
    mem.write(131071, b"z")
    assert func(exports["size"])() == (2,)
    with pytest.raises(MemoryError):
        mem.grow(2)
    assert mem.grow(1) == 2


def test_memory_that_the_guest_grows_is_seen(engine: api.Engine, store: api.Store) -> None:
    text = '(module (memory (export "m") 1) (func (export "grow") (drop (memory.grow (i32.const 1)))))'
    exports = instance(store, engine, text)
    mem = memory(exports["m"])
    mem.read(0, 1)
    func(exports["grow"])()
    mem.write(70000, b"there")
    assert mem.read(70000, 5) == b"there"


def test_globals_and_tables(engine: api.Engine, store: api.Store) -> None:
    text = """(module (global (export "g") (mut i32) (i32.const -7)) (global (export "c") f64 (f64.const 2.5))
      (table (export "t") 3 5 funcref))"""
    exports = instance(store, engine, text)
    assert isinstance(exports["g"], api.Global)
    assert isinstance(exports["t"], api.Table)
    assert (exports["g"].get(), exports["c"].get(), exports["t"].size) == (-7, 2.5, 3)
    exports["g"].set(2**31 + 1)
    assert exports["g"].get() == -(2**31) + 1
    assert exports["g"].type == GlobalType(I32, mutable=True)
    assert isinstance(exports["t"].type, TableType)


def test_exports_by_any_name(engine: api.Engine, store: api.Store) -> None:
    names = ["", "__class__", "keys", "a b", "ü", "name"]
    text = (
        "(module"
        + "".join(f'(func (export "{name}") (result i32) (i32.const {i}))' for i, name in enumerate(names))
        + ")"
    )
    exports = instance(store, engine, text)
    assert [func(exports[name])() for name in names] == [(i,) for i in range(len(names))]


def test_every_kind_links_inside_the_engine(engine: api.Engine, store: api.Store) -> None:
    provider = """(module (memory (export "m") 1) (table (export "t") 2 funcref) (global (export "g") (mut i64) (i64.const 5))
      (func $answer (result i64) (i64.const 40)) (elem (i32.const 0) $answer)
      (func (export "f") (param i64) (result i64) (i64.add (local.get 0) (global.get 0))))"""
    importer = """(module (import "p" "m" (memory 1)) (import "p" "t" (table 2 funcref)) (import "p" "g" (global $g (mut i64)))
      (import "p" "f" (func $f (param i64) (result i64)))
      (func (export "run") (result i64)
        (i64.store (i32.const 8) (i64.const 77)) (global.set $g (i64.const 6))
        (i64.add (call $f (i64.const 100)) (call_indirect (result i64) (i32.const 0)))))"""
    given = instance(store, engine, provider)
    exports = instance(store, engine, importer, given["m"], given["t"], given["g"], given["f"])
    assert func(exports["run"])() == (146,)
    assert memory(given["m"]).read(8, 1) == b"M"
    assert given["g"].get() == 6


def test_providers_live_as_long_as_the_store(engine: api.Engine) -> None:
    """Only the last importer is kept; everything that it was linked to has to stay."""
    store = engine.new_store()
    provider = (
        '(module (memory 1) (data (i32.const 0) "\\2a") (func (export "f") (result i32) (i32.load8_u (i32.const 0))))'
    )
    importer = '(module (import "" "f" (func $f (result i32))) (func (export "f") (result i32) (i32.add (call $f) (i32.const 1))))'
    kept = []
    for _ in range(50):
        provided = instance(store, engine, provider)["f"]
        kept.append(func(instance(store, engine, importer, provided)["f"]))
        del provided
    gc.collect()
    for _ in range(20):
        instance(store, engine, provider)
    assert [f() for f in kept] == [(43,)] * 50
    store.close()


def test_a_function_alone_keeps_its_store(engine: api.Engine) -> None:
    def make() -> api.Func:
        store = engine.new_store()
        return func(instance(store, engine, HOST, store.host_function(HANDLE_TO_HANDLE, lambda x: x * 2))["f"])

    made = [make() for _ in range(20)]
    gc.collect()
    assert [f(21) for f in made] == [(42,)] * 20


def test_after_close_everything_refuses(engine: api.Engine) -> None:
    store = engine.new_store()
    text = '(module (memory (export "m") 1) (global (export "g") i32 (i32.const 1)) (table (export "t") 1 funcref) (func (export "f")))'
    exports = instance(store, engine, text)
    store.close()
    for use in (
        exports["f"],
        lambda: exports["m"].read(0, 1),
        lambda: exports["m"].write(0, b"x"),
        lambda: exports["m"].size,
        lambda: exports["m"].grow(1),
        exports["g"].get,
        lambda: exports["t"].size,
        lambda: store.host_function(FuncType(), lambda: None),
        lambda: store.instantiate(engine.compile(binary("(module)")), []),
    ):
        with pytest.raises(errors.PluginClosedError):
            use()


def test_stores_do_not_see_each_other(engine: api.Engine) -> None:
    module = engine.compile(binary('(module (memory (export "m") 1) (global (export "g") (mut i32) (i32.const 0)))'))
    first, second = engine.new_store(), engine.new_store()
    one, two = (store.instantiate(module, []).exports for store in (first, second))
    memory(one["m"]).write(0, b"secret")
    one["g"].set(9)  # type: ignore[union-attr]
    assert memory(two["m"]).read(0, 6) == bytes(6)
    assert two["g"].get() == 0  # type: ignore[union-attr]
    first.close()
    assert memory(two["m"]).read(0, 6) == bytes(6)
    second.close()


def test_invalid_modules_are_refused(engine: api.Engine) -> None:
    # Says that it gives an i32, and gives nothing.
    invalid = bytes.fromhex("0061736d01000000 010501600001 7f 0302 0100 0a040102000b".replace(" ", ""))
    with pytest.raises(errors.InvalidModuleError):
        engine.validate(invalid)
    with pytest.raises(errors.InvalidModuleError):
        engine.compile(invalid)


def test_segments_that_do_not_fit_are_instantiation_errors(engine: api.Engine, store: api.Store) -> None:
    for text in (
        '(module (memory 1) (data (i32.const 65535) "xx"))',
        "(module (table 1 funcref) (func $f) (elem (i32.const 1) $f))",
    ):
        with pytest.raises(errors.InstantiationError):
            instance(store, engine, text)


def test_a_trap_in_a_start_function_is_a_trap(engine: api.Engine, store: api.Store) -> None:
    with pytest.raises(errors.TrapError) as caught:
        instance(store, engine, "(module (func $f unreachable) (start $f))")
    assert caught.value.kind is TrapKind.UNREACHABLE


def test_types_come_from_the_module(engine: api.Engine) -> None:
    module = engine.compile(
        binary('(module (import "a" "b" (func (param i64) (result f32))) (memory (export "m") 2 3))')
    )
    assert [(i.module, i.name, i.type) for i in module.imports] == [("a", "b", FuncType((I64,), (F32,)))]
    assert isinstance(module.exports[0].type, MemoryType)
    assert (module.exports[0].type.limits.minimum, module.exports[0].type.limits.maximum) == (2, 3)


def test_serialised_modules_load_again(engine: api.Engine, store: api.Store) -> None:
    if not engine.capabilities.serializes:
        with pytest.raises(errors.UnsupportedFeatureError):
            engine.compile(binary(NUMBERS)).serialize()
        return
    wasm = binary(NUMBERS)
    artifact = engine.compile(wasm).serialize()
    loaded = engine.deserialize(artifact, wasm)
    assert func(store.instantiate(loaded, []).exports["i64"])(-3) == (-3,)
    for damaged in (artifact[:-1], artifact[:40], b"", artifact[:100] + bytes([artifact[100] ^ 1]) + artifact[101:]):
        with pytest.raises(errors.InvalidModuleError, match="damaged"):
            engine.deserialize(damaged, wasm)


# -- the exchange, against its reference ---------------------------------------------------------------------------

ENTRY = """(module (memory (export "memory") 1 4)
  (func (export "call") (param $n i64)
    ;; status = first byte - '0' when the input begins with a digit, output = the input, error = 0
    (i64.store (i32.const 0) (i64.const 0))
    (i64.store (i32.const 8) (i64.const 1040))
    (i64.store (i32.const 16) (local.get $n))
    (i64.store (i32.const 24) (i64.const 0))
    (if (i64.gt_u (local.get $n) (i64.const 0)) (then
      (if (i32.eq (i32.load8_u (i32.const 1040)) (i32.const 33)) (then unreachable))
      (if (i32.eq (i32.load8_u (i32.const 1040)) (i32.const 49)) (then (i64.store (i32.const 0) (i64.const 1))))
      (if (i32.eq (i32.load8_u (i32.const 1040)) (i32.const 69)) (then (i64.store (i32.const 24) (i64.const 5))))
      (if (i32.eq (i32.load8_u (i32.const 1040)) (i32.const 71)) (then
        (drop (memory.grow (i32.const 1)))
        (i64.store (i32.const 16) (i64.const 80000))))))))"""


@pytest.mark.parametrize("reference", [False, True], ids=["own", "reference"])
def test_exchange(engine: api.Engine, store: api.Store, reference: bool) -> None:
    exports = instance(store, engine, ENTRY)
    mem = memory(exports["memory"])
    asked: list[int] = []

    def make_room(end: int) -> None:
        asked.append(end)
        missing = end - mem.size
        if missing > 0:
            mem.grow((missing + 65535) // 65536)

    make: Callable[..., api.Exchange] = api.generic_exchange if reference else store.exchange
    exchange = make(func(exports["call"]), mem, api.ExchangeLayout(input=1040, state=0), make_room)
    assert exchange(b"hello") == b"hello"
    assert exchange(b"") == b""
    assert exchange(b"1 status") is None
    assert exchange(b"E error") is None
    assert exchange(b"G")[:1] == b"G"  # type: ignore[index]
    with pytest.raises(errors.TrapError):
        exchange(b"! trap")
    assert exchange(b"again") == b"again"
    assert not asked
    large = struct.pack("<I", 77) * 40000
    assert exchange(large) == large
    assert asked == [1040 + len(large)]
    with pytest.raises(MemoryError):
        exchange(bytes(5 * 65536))
    assert exchange(b"still") == b"still"
    store.close()
    with pytest.raises(errors.PluginClosedError):
        exchange(b"closed")


def test_indirect_calls_check_types_across_modules(engine: api.Engine) -> None:
    """Function types of every origin meet in one table: own, another module's, a host function's."""
    provider = """(module (func (export "wrong") (param f64) (result f64) (local.get 0))
      (func (export "right") (param i64) (result i64) (i64.add (local.get 0) (i64.const 1))))"""
    importer = """(module
      (type $wanted (func (param i64) (result i64)))
      (import "" "wrong" (func $wrong (param f64) (result f64)))
      (import "" "right" (func $right (param i64) (result i64)))
      (import "" "host" (func $host (param i64) (result i64)))
      (import "" "other" (func $other (param i32)))
      (table 4 funcref) (elem (i32.const 0) $wrong $right $host $other)
      (func (export "call") (param i32) (result i64) (call_indirect (type $wanted) (i64.const 41) (local.get 0))))"""
    main = engine.compile(binary(importer))
    for store in (engine.new_store(main), engine.new_store(main), engine.new_store()):
        given = instance(store, engine, provider)
        host = store.host_function(HANDLE_TO_HANDLE, lambda x: x + 2)
        other = store.host_function(FuncType((I32,)), lambda _x: None)
        call = func(store.instantiate(main, [given["wrong"], given["right"], host, other]).exports["call"])
        assert (call(1), call(2)) == ((42,), (43,))
        for index in (0, 3):
            with pytest.raises(errors.TrapError) as caught:
                call(index)
            assert caught.value.kind is TrapKind.BAD_SIGNATURE
        store.close()
