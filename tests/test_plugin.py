"""The life of a plugin and the outcome of a call, on every engine (section 5 of the protocol's description)."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import uuid
import weakref
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .conftest import engine_named
from .support import ECHO, binary, plugin, plugin_text

# Error text "bad" from offset 0 of the guest's memory.
BAD = '(data (i32.const 0) "bad\\00tail")'
SET_BAD = "(call $error_set (call $copy (i32.const 0) (i32.const 3)))"
SET_OUT = "(call $out (call $copy (i32.const 0) (i32.const 2)))"


def outcome(engine: api.Engine, body: str, result: str = "(result i32)", extra: str = "") -> Any:
    """Output of an export with this body; or class, text and exit code of the error."""
    with plugin(engine, f'{BAD} {extra} (func (export "f") {result} {body})') as made:
        try:
            return made.call("f", b"input")
        except extism.Error as error:
            assert made.exit_code == error.exit_code
            assert (error.plugin, error.function, error.engine) == (str(made.id), "f", engine.name)
            return type(error).__name__, str(error), error.exit_code


@pytest.mark.parametrize(
    ("body", "result", "expected"),
    [
        (f"{SET_OUT} (i32.const 0)", "(result i32)", b"ba"),
        (SET_OUT, "", b"ba"),
        ("", "", b""),
        (f"{SET_OUT} (i64.const 0)", "(result i64)", b"ba"),
        (f"{SET_OUT} (i32.const 7)", "(result i32)", ("GuestError", "Error code: 7", 7)),
        ("(i32.const -5)", "(result i32)", ("GuestError", "Error code: -5", -5)),
        ("(i64.const 3)", "(result i64)", ("GuestError", "Error code: 3", 3)),
        ("(f32.const 0)", "(result f32)", ("GuestError", "Error code: -1", -1)),
        ("(f64.const 0)", "(result f64)", ("GuestError", "Error code: -1", -1)),
        (f"{SET_BAD} (i32.const 1)", "(result i32)", ("GuestError", "bad", 1)),
        (f"{SET_BAD} (i32.const 0)", "(result i32)", ("GuestError", "bad", 0)),
        (SET_BAD, "", ("GuestError", "bad", 0)),
        (f"{SET_BAD} {SET_OUT} (i32.const 0)", "(result i32)", ("GuestError", "bad", 0)),
        (
            f"{SET_BAD} (call $error_set (i64.const 0)) (i32.const 1)",
            "(result i32)",
            ("GuestError", "Error code: 1", 1),
        ),
        (f"{SET_BAD} unreachable", "(result i32)", ("GuestError", "bad", -1)),
        (
            "(call $error_set (call $copy (i32.const 0) (i32.const 8))) (i32.const 0)",
            "(result i32)",
            ("GuestError", "bad", 0),
        ),
        ("(call $error_set (i64.const 0xffffffffff)) (i32.const 0)", "(result i32)", b""),
        (
            "(local $h i64) (local.set $h (call $copy (i32.const 0) (i32.const 3))) (call $error_set (local.get $h)) "
            "(call $free (local.get $h)) (i32.const 0)",
            "(result i32)",
            ("GuestError", "", 0),
        ),
        ("unreachable", "(result i32)", ("TrapError", "wasm trap: unreachable", 134)),
        (
            "(i32.div_s (i32.const 1) (i32.const 0))",
            "(result i32)",
            ("TrapError", "wasm trap: integer divide by zero", 134),
        ),
    ],
)
def test_outcomes(engine: api.Engine, body: str, result: str, expected: Any) -> None:
    assert outcome(engine, body, result) == expected


def test_the_trap_behind_an_error_text_is_its_cause(engine: api.Engine) -> None:
    with plugin(engine, f'{BAD} (func (export "f") {SET_BAD} unreachable)') as made:
        with pytest.raises(extism.GuestError) as caught:
            made.call("f")
        assert isinstance(caught.value.__cause__, extism.TrapError)
        assert caught.value.__cause__.kind is extism.TrapKind.UNREACHABLE


def test_error_text_that_is_not_utf8_is_replaced(engine: api.Engine) -> None:
    body = '(data (i32.const 0) "\\ff\\c3\\a4") (func (export "f") (call $error_set (call $copy (i32.const 0) (i32.const 3))))'
    with plugin(engine, body) as made, pytest.raises(extism.GuestError, match="^�ä$"):
        made.call("f")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("nope", extism.FunctionNotFoundError, "Function not found: nope"),
        ("memory", extism.FunctionNotFoundError, "Function not found: memory"),
        ("", extism.FunctionNotFoundError, "Function not found: "),
        ("param", extism.CallError, "expected 1 arguments, got 0"),
    ],
)
def test_what_cannot_be_called(engine: api.Engine, name: str, kind: type[extism.Error], text: str) -> None:
    with plugin(engine, '(func (export "param") (param i32))' + ECHO) as made:
        with pytest.raises(kind) as caught:
            made.call(name, b"x")
        assert str(caught.value) == text
        assert made.call("echo", b"x") == b"x"


def test_several_results_cannot_be_called(engine: api.Engine) -> None:
    if "multi-value" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no multi-value")
    with plugin(engine, '(func (export "f") (result i32 i32) (i32.const 0) (i32.const 0))') as made:
        with pytest.raises(extism.CallError, match="^Function f has 2 results, expected 0 or 1$"):
            made.call("f")
        assert not made.function_exists("f")


def test_function_exists_and_exports(engine: api.Engine) -> None:
    body = """(func (export "none")) (func (export "i32") (result i32) (i32.const 0)) (func (export "i64") (result i64) (i64.const 0))
      (func (export "param") (param i32)) (global (export "g") i32 (i32.const 0))"""
    with plugin(engine, body) as made:
        names = ("none", "i32", "i64", "param", "g", "memory", "nope")
        assert [made.function_exists(name) for name in names] == [True, True] + [False] * 5
        assert made.exports == ("none", "i32")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 1000, 64496, 64497, 65536, 1 << 20])
def test_input_of_every_size_comes_back(engine: api.Engine, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    with plugin(engine, ECHO) as made:
        assert made.call("echo", data) == data
        assert made.call("echo", b"small") == b"small"
        assert made.call("echo", data) == data


@pytest.mark.parametrize(
    "data", ["grüße", b"bytes", bytearray(b"array"), memoryview(b"view"), memoryview(b"a.b.c")[::2]]
)
def test_input_of_every_type(engine: api.Engine, data: Any) -> None:
    expected = data.encode() if isinstance(data, str) else bytes(data)
    with plugin(engine, ECHO) as made:
        assert made.call("echo", data) == expected


@pytest.mark.parametrize("data", [None, 5, ["a"], object()])
def test_other_input_is_a_type_error(engine: api.Engine, data: Any) -> None:
    with plugin(engine, ECHO) as made:
        with pytest.raises(TypeError, match="str or bytes"):
            made.call("echo", data)
        assert made.call("echo", b"x") == b"x"


def test_parse(engine: api.Engine) -> None:
    with plugin(engine, ECHO) as made:
        assert made.call("echo", "12", parse=lambda out: int(out[:].decode())) == 12
        with pytest.raises(ZeroDivisionError):
            made.call("echo", "0", parse=lambda out: 1 // int(out))
        assert type(made.call("echo", b"x")) is bytes


# -- state between calls ---------------------------------------------------------------------------------------

COUNTER = """(global $n (mut i32) (i32.const 48))
  (func (export "next") (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (i32.store8 (i32.const 9) (global.get $n)) (call $out (call $copy (i32.const 9) (i32.const 1))))
  (func (export "trap") (global.set $n (i32.add (global.get $n) (i32.const 1))) unreachable)
  (func (export "fail") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.const 1))
  (func (export "_start") (global.set $n (i32.const 65)))"""


def test_the_instance_survives_failures(engine: api.Engine) -> None:
    with plugin(engine, COUNTER) as made:
        assert made.call("next") == b"1"
        for name in ("trap", "fail", "nope"):
            with pytest.raises(extism.CallError):
                made.call(name)
        assert made.call("next") == b"4"
        made.reset()
        assert made.call("next") == b"1"


def test_start_is_followed_by_a_fresh_instance(engine: api.Engine) -> None:
    with plugin(engine, COUNTER) as made:
        variables = made.vars
        variables["kept"] = b"?"
        assert made.call("next") == b"1"
        made.call("_start")
        assert made.call("next") == b"1"
        assert dict(made.vars) == dict(variables) == {}
    with plugin(engine, COUNTER, keep_vars=True) as made:
        made.vars["kept"] = b"!"
        made.call("_start")
        made.call("next")
        assert dict(made.vars) == {"kept": b"!"}
        made.reset()
        assert dict(made.vars) == {}


def test_reset_keeps_identity_and_config(engine: api.Engine) -> None:
    with plugin(engine, COUNTER, config={"a": "b"}) as made:
        before = made.id
        made.vars["x"] = b"1"
        made.reset()
        assert made.id == before
        assert isinstance(before, uuid.UUID)
        assert before.version == 4
        assert (dict(made.config), dict(made.vars)) == ({"a": "b"}, {})


def test_nothing_of_a_call_is_left_for_the_next(engine: api.Engine) -> None:
    body = """(func (export "hide") (call $store_u64 (call $alloc (i64.const 5000)) (i64.const -1)))
      (func (export "seek") (result i32) (local $i i64) (local $sum i32)
        (local.set $i (i64.const 1024))
        (loop $next
          (local.set $sum (i32.or (local.get $sum) (call $load_u8 (local.get $i))))
          (local.set $i (i64.add (local.get $i) (i64.const 1)))
          (br_if $next (i64.lt_u (local.get $i) (i64.const 70000))))
        (local.get $sum))"""
    with plugin(engine, body) as made:
        made.call("hide", b"secret" * 100)
        assert made.call("seek", b"") == b""


# -- initialisers ----------------------------------------------------------------------------------------------

INITIALISERS = """
  (memory (export "memory") 1)
  (global $order (mut i32) (i32.const 0))
  (func $note (param i32) (global.set $order (i32.add (i32.mul (global.get $order) (i32.const 10)) (local.get 0))))
  (func (export "f") (result i32) (global.get $order))"""


@pytest.mark.parametrize(
    ("exports", "order"),
    [
        ('(func (export "_initialize") (call $note (i32.const 1)))', 1),
        ('(func (export "__wasm_call_ctors") (call $note (i32.const 2)))', 2),
        (
            '(func (export "_initialize") (call $note (i32.const 1))) (func (export "__wasm_call_ctors") (call $note (i32.const 2)))',
            2,
        ),
        ('(func (export "hs_init") (param i32 i32) (call $note (i32.const 3)))', 3),
        (
            '(func (export "_initialize") (call $note (i32.const 1))) (func (export "hs_init") (param i32 i32) (call $note (i32.const 3)))',
            13,
        ),
        ('(func (export "_initialize") (param i32) (call $note (i32.const 1)))', 0),
        (
            '(func $s (call $note (i32.const 5))) (start $s) (func (export "_initialize") (call $note (i32.const 1)))',
            51,
        ),
        (
            '(func (export "_start") (call $note (i32.const 6))) (func (export "_initialize") (call $note (i32.const 1)))',
            1,
        ),
    ],
)
def test_initialisers_run_once_in_order(engine: api.Engine, exports: str, order: int) -> None:
    with extism.Plugin(binary(f"(module {INITIALISERS} {exports})"), engine=engine, functions=[]) as made:
        for _ in range(2):
            if order:
                with pytest.raises(extism.GuestError, match=f"^Error code: {order}$"):
                    made.call("f")
            else:
                assert made.call("f") == b""


def test_a_failed_initialiser_fails_every_call(engine: api.Engine) -> None:
    body = f'(func (export "_initialize") unreachable) {ECHO}'
    with plugin(engine, body) as made:
        for _ in range(3):
            with pytest.raises(extism.CallError, match="failed to initialize wasi runtime") as caught:
                made.call("echo", b"x")
            assert isinstance(caught.value.__cause__, extism.TrapError)
            assert caught.value.exit_code == -1


def test_a_start_function_that_traps(engine: api.Engine) -> None:
    with pytest.raises(extism.TrapError, match="^Unable to create Extism plugin: wasm trap: unreachable$") as caught:
        plugin(engine, "(func $s unreachable) (start $s)")
    assert caught.value.kind is extism.TrapKind.UNREACHABLE


# -- closing, re-entrance, threads --------------------------------------------------------------------------------


def test_a_closed_plugin_refuses(engine: api.Engine) -> None:
    made = plugin(engine, ECHO)
    made.call("echo", b"x")
    handle = made.call
    with made:
        pass
    made.close()
    for use in (
        lambda: made.call("echo", b"x"),
        lambda: handle("echo", b"x"),
        made.reset,
        lambda: made.function_exists("echo"),
        lambda: made.exports,
    ):
        with pytest.raises(extism.PluginClosedError):
            use()
        with pytest.raises(TypeError):
            use()


CALL_BACK = """(import "extism:host/user" "back" (func $back))"""


def test_reentrance_is_refused(engine: api.Engine) -> None:
    seen: list[BaseException] = []

    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        for use in (lambda: made.call("echo", b"x"), made.close, made.reset):
            with pytest.raises(extism.PluginBusyError) as caught:
                use()
            seen.append(caught.value)

    made = plugin(engine, f'{ECHO} (func (export "f") (call $back))', CALL_BACK, functions=[back])
    made.call("f")
    assert len(seen) == 3
    assert made.call("echo", b"after") == b"after"
    made.close()


def test_one_plugin_may_call_another(engine: api.Engine) -> None:
    inner = plugin(engine, f'{ECHO} (func (export "trap") unreachable)')

    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        assert inner.call("echo", b"inner") == b"inner"
        inner.call("trap")

    with plugin(engine, f'{ECHO} (func (export "f") (call $back))', CALL_BACK, functions=[back]) as outer:
        with pytest.raises(extism.HostFunctionError) as caught:
            outer.call("f")
        assert isinstance(caught.value.__cause__, extism.TrapError)
        assert (caught.value.plugin, caught.value.__cause__.plugin) == (str(outer.id), str(inner.id))
        assert outer.call("echo", b"outer") == b"outer"
    inner.close()


@pytest.mark.parametrize("make", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_passes_as_it_is(engine: api.Engine, make: type[BaseException]) -> None:
    raised = make()

    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        raise raised

    with plugin(engine, f'{ECHO} (func (export "f") (call $back))', CALL_BACK, functions=[back]) as made:
        with pytest.raises(make) as caught:
            made.call("f")
        assert caught.value is raised
        assert made.call("echo", b"x") == b"x"


class FromHandler(BaseException):
    """Raised by a signal handler."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handler_may_raise_at_any_moment(engine: api.Engine) -> None:
    """No exception is lost, and none leaves the plugin busy, locked or half prepared."""

    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        current.free(current.alloc(100))

    sent = [0]

    def handler(_number: int, _frame: Any) -> None:
        sent[0] += 1
        raise FromHandler

    rng = random.Random(3)
    body = f'{ECHO} (func (export "f") (call $back) (call $back) (call $back))'
    before = signal.signal(signal.SIGALRM, handler)
    caught = 0
    try:
        while caught < 400:
            made = plugin(engine, body, CALL_BACK, functions=[back])
            for _ in range(20):
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00003, 0.001))
                    while True:
                        made.call("f")
                        assert made.call("echo", b"right") == b"right"
                except FromHandler:
                    caught += 1
            made.close()
        assert caught == sent[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _in_thread(function: Any) -> Any:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_other_threads(engine: api.Engine) -> None:
    with plugin(engine, ECHO) as made:
        assert made.call("echo", b"x") == b"x"
        result = _in_thread(lambda: made.call("echo", b"there"))
        if not engine.capabilities.thread_bound:
            assert result == b"there"
            return
        assert isinstance(result, extism.WrongThreadError)
        assert "any_thread=True" in str(result)
        assert isinstance(_in_thread(made.reset), extism.WrongThreadError)
        assert made.call("echo", b"still") == b"still"


def test_any_thread(engine: api.Engine) -> None:
    body = f'{ECHO} (func (export "trap") unreachable) (func (export "f") (call $back))'

    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        with pytest.raises(extism.PluginBusyError):
            made.call("echo", b"x")
        raise KeyError("from the host")

    with plugin(engine, body, CALL_BACK, functions=[back], any_thread=True) as made:
        assert made.call("echo", b"here") == b"here"
        assert _in_thread(lambda: made.call("echo", b"there")) == b"there"
        assert isinstance(_in_thread(lambda: made.call("trap")), extism.TrapError)
        with pytest.raises(extism.HostFunctionError) as caught:
            made.call("f")
        assert isinstance(caught.value.__cause__, KeyError)
        _in_thread(made.reset)
        results = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(made.call("echo", str(n)) == str(n).encode()))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 8
    assert isinstance(_in_thread(lambda: made.call("echo", b"closed")), extism.PluginClosedError)


def test_a_forgotten_plugin_leaves_no_thread(engine: api.Engine) -> None:
    before = threading.active_count()
    made = plugin(engine, ECHO, any_thread=True)
    made.call("echo", b"x")
    del made
    gc.collect()
    for _ in range(100):
        if threading.active_count() == before:
            break
        threading.Event().wait(0.02)
    assert threading.active_count() == before


def test_a_compiled_plugin_makes_isolated_plugins(engine: api.Engine) -> None:
    compiled = extism.CompiledPlugin(binary(plugin_text(COUNTER)), engine=engine, functions=[])
    with extism.Plugin(compiled) as one, extism.Plugin(compiled, config={"k": "v"}) as two:
        assert one.call("next") == b"1"
        assert one.call("next") == b"2"
        assert two.call("next") == b"1"
        one.vars["x"] = b"1"
        assert (dict(two.vars), dict(one.config), dict(two.config)) == ({}, {}, {"k": "v"})
        assert one.id != two.id
        one.close()
        assert two.call("next") == b"2"


def test_a_compiled_plugin_works_in_other_threads(engine: api.Engine) -> None:
    compiled = extism.CompiledPlugin(binary(plugin_text(ECHO)), engine=engine, functions=[])

    def use() -> bytes:
        with extism.Plugin(compiled) as made:
            result: bytes = made.call("echo", b"own")
            return result

    assert [_in_thread(use) for _ in range(3)] == [b"own"] * 3
    assert use() == b"own"


# -- limits ----------------------------------------------------------------------------------------------------

GROW = """(func (export "grow") (result i32) (memory.grow (i32.const 1)))
  (func (export "alloc") (result i32) (i32.wrap_i64 (call $alloc (i64.const 100000))))"""


def test_memory_is_limited(engine: api.Engine) -> None:
    for options in ({"limits": extism.Limits(memory_pages=2)}, {}):
        source: Any = {"wasm": [{"data": binary(plugin_text(GROW + ECHO))}]}
        if not options:
            source["memory"] = {"max_pages": 2}
        with extism.Plugin(source, engine=engine, functions=[], **options) as made:  # type: ignore[arg-type]
            with pytest.raises(extism.GuestError, match="^Error code: 1$"):
                made.call("grow")
            with pytest.raises(extism.GuestError, match="^Error code: -1$"):
                made.call("grow")
            with pytest.raises(extism.GuestError, match="^Error code: "):
                made.call("alloc")
            with pytest.raises(extism.OutOfMemoryError, match="^oom$") as caught:
                made.call("echo", bytes(200_000))
            assert isinstance(caught.value, MemoryError)
            assert caught.value.exit_code == -1
            assert made.call("echo", b"fine") == b"fine"


def test_a_block_beyond_the_limit_is_oom(engine: api.Engine) -> None:
    with plugin(engine, GROW + ECHO, limits=extism.Limits(memory_pages=1)) as made:
        with pytest.raises(extism.OutOfMemoryError, match="^oom$"):
            made.call("alloc", bytes(40_000))
        assert made.call("echo", b"fine") == b"fine"


def test_a_memory_that_begins_too_large_is_oom(engine: api.Engine) -> None:
    wasm = binary('(module (memory (export "memory") 3) (func (export "f")))')
    with pytest.raises(extism.OutOfMemoryError, match="oom"):
        extism.Plugin(wasm, engine=engine, limits=extism.Limits(memory_pages=2))
    with extism.Plugin(wasm, engine=engine, limits=extism.Limits(memory_pages=3)) as made:
        made.call("f")


def test_tables_are_limited(engine: api.Engine) -> None:
    text = (
        '(module (table 1 funcref) (func (export "f") (result i32) (table.grow (ref.null func) (i32.const 2000000))))'
    )
    with extism.Plugin(binary(text), engine=engine) as made, pytest.raises(extism.GuestError, match="^Error code: -1$"):
        made.call("f")


def test_input_output_and_modules_are_limited(engine: api.Engine) -> None:
    with plugin(engine, ECHO, limits=extism.Limits(input_bytes=10, output_bytes=5)) as made:
        assert made.call("echo", b"12345") == b"12345"
        with pytest.raises(extism.CallError, match="the output has 6 bytes; 5 are allowed"):
            made.call("echo", b"123456")
        with pytest.raises(extism.CallError, match="the input has 11 bytes; 10 are allowed"):
            made.call("echo", b"12345678901")
    with pytest.raises(extism.SourceError, match="larger than the 20 bytes"):
        plugin(engine, ECHO, limits=extism.Limits(module_bytes=20))


def test_a_limit_that_cannot_be_kept_is_refused(engine: api.Engine) -> None:
    source = {"wasm": [{"data": binary(plugin_text(ECHO))}], "timeout_ms": 1000}
    with pytest.raises(extism.UnsupportedFeatureError, match="^timeout_ms: "):
        extism.Plugin(source, engine=engine)


# -- nothing stays behind ------------------------------------------------------------------------------------------


def test_a_forgotten_plugin_is_collected(engine: api.Engine) -> None:
    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        pass

    def make() -> weakref.ref[extism.Plugin]:
        made = plugin(engine, f'{ECHO} (func (export "f") (call $back))', CALL_BACK, functions=[back])
        made.call("f")
        return weakref.ref(made)

    references = [make() for _ in range(5)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


def test_whatever_is_kept_goes_on(engine: api.Engine) -> None:
    """Drop every reference but one: what is left works as long as it is held."""
    kept: list[Any] = []

    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        kept.append(current)
        kept.append(current.memory(current.alloc(8)))

    def make() -> list[Any]:
        compiled = extism.CompiledPlugin(
            binary(plugin_text(f'{ECHO} (func (export "f") (call $back))', CALL_BACK)), engine=engine, functions=[back]
        )
        made = extism.Plugin(compiled, config={"a": "b"})
        made.call("f")
        made.vars["v"] = b"1"
        return [compiled, extism.Plugin(compiled).call, made.vars, made.config]

    compiled, call, variables, config = make()
    current, view = kept
    kept.clear()
    gc.collect()
    for _ in range(20):
        plugin(engine, ECHO).call("echo", b"others come and go")
    gc.collect()
    assert call("echo", b"call alone") == b"call alone"
    assert extism.Plugin(compiled).call("echo", b"x") == b"x"
    assert (dict(variables), dict(config)) == ({"v": b"1"}, {"a": "b"})
    view[:] = b"12345678"
    assert view[:] == b"12345678"
    assert current.config["a"] == "b"


def test_views_refuse_after_close(engine: api.Engine) -> None:
    kept: list[Any] = []

    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        kept.extend((current.memory(current.alloc(8)), current))

    with plugin(engine, '(func (export "f") (call $back))', CALL_BACK, functions=[back]) as made:
        made.call("f")
    view, current = kept
    with pytest.raises(extism.PluginClosedError):
        view[:]
    with pytest.raises(extism.PluginClosedError):
        view[:] = b"12345678"
    with pytest.raises(extism.PluginClosedError):
        current.alloc(5)


def test_no_stale_error_text_when_the_guest_did_not_run(wasmer_engine: api.Engine) -> None:
    """A call that is not begun, for want of stack, does not report what an earlier one left behind."""
    body = f'{BAD} {ECHO} (func (export "fail") {SET_BAD})'
    compiled = extism.CompiledPlugin(binary(plugin_text(body)), engine=wasmer_engine, functions=[])
    found: list[BaseException] = []

    def use() -> None:
        made = extism.Plugin(compiled)
        with pytest.raises(extism.GuestError, match="^bad$"):
            made.call("fail")

        def deeper(left: int) -> None:
            if left:
                deeper(left - 1)
            else:
                made.call("echo", b"x")

        for depth in range(0, 900, 20):
            try:
                deeper(depth)
            except extism.Error as error:
                found.append(error)
                break

    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert [str(error)[:14] for error in found] == ["the thread has"]


def test_a_compiled_plugin_has_its_engine_and_limits(engine: api.Engine) -> None:
    compiled = extism.CompiledPlugin(binary(plugin_text(ECHO)), engine=engine, functions=[])
    for options in ({"engine": engine}, {"limits": extism.Limits(input_bytes=1)}):
        with pytest.raises(TypeError, match="CompiledPlugin"):
            extism.Plugin(compiled, **options)


def test_closing_and_resetting_while_others_call(engine: api.Engine) -> None:
    """Nobody waits for ever, and nobody is answered wrongly."""
    for _ in range(5):
        made = plugin(engine, ECHO, any_thread=True)
        wrong: list[object] = []

        def use(made: extism.Plugin = made, wrong: list[object] = wrong) -> None:
            try:
                while True:
                    if made.call("echo", b"x") != b"x":
                        wrong.append("answer")
            except extism.PluginClosedError:
                return
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=use, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            made.reset()
        closers = [threading.Thread(target=made.close, daemon=True) for _ in range(2)]
        for thread in closers:
            thread.start()
        for thread in (*threads, *closers):
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in (*threads, *closers))
        assert wrong == []


def test_the_exit_code_is_the_last_calls(engine: api.Engine) -> None:
    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        raise KeyboardInterrupt

    body = f'{ECHO} (func (export "seven") (result i32) (i32.const 7)) (func (export "f") (call $back))'
    with plugin(engine, body, CALL_BACK, functions=[back]) as made:
        assert made.exit_code is None
        made.call("echo", b"")
        assert made.exit_code == 0
        with pytest.raises(extism.GuestError):
            made.call("seven")
        assert made.exit_code == 7
        with pytest.raises(KeyboardInterrupt):
            made.call("f")
        assert made.exit_code is None
        with pytest.raises(extism.UnsupportedFeatureError):
            made.cancel_handle()


def test_vars_set_after_start_are_kept(engine: api.Engine) -> None:
    with plugin(engine, COUNTER) as made:
        made.vars["before"] = b"1"
        made.call("_start")
        made.vars["after"] = b"2"
        made.call("next")
        assert dict(made.vars) == {"after": b"2"}


def test_the_input_of_a_call_that_is_refused_is_not_left_for_the_next(wasmer_engine: api.Engine) -> None:
    """A call that is not begun, for want of stack, puts nothing into the kernel's memory."""
    body = f"""{ECHO} (func (export "look") (call $output_set (i64.const 1040) (i64.const 3000)))"""
    compiled = extism.CompiledPlugin(binary(plugin_text(body)), engine=wasmer_engine, functions=[])
    seen: list[bytes] = []
    refused: list[str] = []

    def use() -> None:
        made = extism.Plugin(compiled)
        made.call("look")

        def deeper(left: int) -> None:
            if left:
                deeper(left - 1)
            else:
                made.call("echo", b"secret" * 400)

        for depth in range(0, 900, 20):
            try:
                deeper(depth)
            except extism.CallError as error:
                refused.append(str(error))
                break
        seen.append(made.call("look"))

    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert refused
    assert seen == [bytes(3000)]


def test_an_allocation_that_the_host_catches_is_not_the_reason_of_a_later_trap(engine: api.Engine) -> None:
    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        with pytest.raises(extism.OutOfMemoryError):
            current.alloc(1_000_000)

    body = '(func (export "f") (call $back) unreachable)'
    limits = extism.Limits(memory_pages=1)
    with plugin(engine, body, CALL_BACK, functions=[back], limits=limits) as made, pytest.raises(extism.TrapError):
        made.call("f")


def test_finalizers_of_a_garbage_cycle_may_use_the_plugin(engine: api.Engine) -> None:
    """The collector runs them in any order: the plugin works or refuses, and nothing is freed under its hands."""
    seen: list[str] = []

    class Holder:
        def __init__(self) -> None:
            self.me = self
            self.plugin = plugin(engine, ECHO)
            self.plugin.call("echo", b"x")

        def __del__(self) -> None:
            try:
                seen.append(str(self.plugin.call("echo", b"x")))
            except (extism.Error, ReferenceError) as error:
                seen.append(type(error).__name__)

    for _ in range(5):
        Holder()
    gc.collect()
    assert len(seen) == 5
    with plugin(engine, ECHO) as made:
        assert made.call("echo", b"fine") == b"fine"


def test_memory_limits_do_not_cover_collected_heaps(wasmtime_engine: api.Engine) -> None:
    wasm = binary('(module (type $a (array i8)) (func (export "f") (drop (array.new_default $a (i32.const 1)))))')
    extism.Plugin(wasm, engine=wasmtime_engine, functions=[]).call("f")
    with pytest.raises(extism.UnsupportedFeatureError, match="garbage collected heap"):
        extism.Plugin(wasm, engine=wasmtime_engine, functions=[], limits=extism.Limits(memory_pages=10))


def test_threads_with_too_little_stack_are_refused() -> None:
    engine = engine_named("wasmtime")
    compiled = extism.CompiledPlugin(binary(plugin_text(ECHO)), engine=engine, functions=[])
    before = threading.stack_size(512 << 10)
    try:
        result = _in_thread(lambda: extism.Plugin(compiled))
    finally:
        threading.stack_size(before)
    if sys.platform.startswith("linux"):
        assert isinstance(result, extism.InstantiationError)
        assert "threading.stack_size" in str(result)
