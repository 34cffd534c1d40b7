"""The life of a plugin and the outcome of a call, on every engine (section 5 of the protocol's description)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .support import BAD, CALL_BACK, COUNTER, ECHO, SET_BAD, binary, plugin, plugin_text

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


def test_a_compiled_plugin_has_its_engine_and_limits(engine: api.Engine) -> None:
    compiled = extism.CompiledPlugin(binary(plugin_text(ECHO)), engine=engine, functions=[])
    for options in ({"engine": engine}, {"limits": extism.Limits(input_bytes=1)}):
        with pytest.raises(TypeError, match="CompiledPlugin"):
            extism.Plugin(compiled, **options)


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
