"""What host functions raise reaches the caller, whoever called."""

from __future__ import annotations

from typing import Any

import pytest

import extism_engines as extism
from extism_engines import HostFunctionError, ValType, host_fn
from extism_engines.engines import api

from .hosting import calling, echo_through, status
from .support import plugin

# -- failures --------------------------------------------------------------------------------------------------


class Odd(Exception):
    def __init__(self) -> None:
        super().__init__("one", 2)


@pytest.mark.parametrize(
    "raised", [ValueError("no luck"), KeyError("k"), StopIteration(), AssertionError(), RecursionError("deep"), Odd(),
               extism.Error("plain"), extism.GuestError("guest"), OSError(2, "gone"), UnicodeDecodeError("u", b"", 0, 0, "r")],
    ids=lambda raised: type(raised).__name__,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["explicit", "inferred"])
def test_an_exception_reaches_the_caller(engine: api.Engine, raised: Exception, kind: str) -> None:
    @host_fn(namespace="my:space", signature=([ValType.I64], []))
    def explicit(*_: Any) -> None:
        raise raised

    @host_fn(namespace="my:space")
    def inferred(number: int) -> None:
        raise raised

    function = explicit if kind == "explicit" else inferred
    body = "(if (i64.ne (call $input_length) (i64.const 0)) (then (call $f (i64.const 1)))) (i32.const 0)"
    with calling(engine, function, body) as made:
        for _ in range(2):
            with pytest.raises(HostFunctionError) as caught:
                made.call("run", b"x")
            error = caught.value
            assert error.__cause__ is raised
            assert str(error) == f"host function my:space::{kind} raised {type(raised).__name__}: {raised}"
            assert (error.function, error.engine, error.plugin) == ("run", engine.name, str(made.id))
            assert error.exit_code == made.exit_code == -1
            # The guest was unwound, and can be called again.
            assert made.call("run", b"") == b""


@pytest.mark.parametrize("make", [KeyboardInterrupt, SystemExit, GeneratorExit, type("Other", (BaseException,), {})])
def test_what_is_no_exception_comes_out_as_itself(engine: api.Engine, make: type[BaseException]) -> None:
    raised = make()

    @host_fn(name="f")
    def function() -> None:
        raise raised

    with calling(engine, function, "(call $f) (i32.const 0)") as made:
        for _ in range(2):
            with pytest.raises(make) as caught:
                made.call("run")
            assert caught.value is raised


def test_the_guest_s_state_is_as_it_left_it(engine: api.Engine) -> None:
    @host_fn(name="f")
    def function() -> None:
        raise ValueError

    count = "(i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (i32.const 1)))"
    body = (
        f"{count} (if (i32.lt_u (i32.load (i32.const 100)) (i32.const 4)) (then (call $f))) (i32.load (i32.const 100))"
    )
    with calling(engine, function, body) as made:
        for _ in range(3):
            with pytest.raises(HostFunctionError):
                made.call("run")
        assert status(made) == 4


@pytest.mark.parametrize("name", ["_initialize", "__wasm_call_ctors"])
def test_failures_in_an_initialiser(engine: api.Engine, name: str) -> None:
    raised = ValueError("not yet")
    seen: list[int] = []

    @host_fn(name="f")
    def function() -> None:
        seen.append(1)
        if len(seen) < 3:
            raise raised

    initialiser = f'(func (export "{name}") (call $f))'
    imports = '(import "extism:host/user" "f" (func $f))'
    with plugin(engine, initialiser + '(func (export "run"))', imports, functions=[function]) as made:
        for _ in range(2):
            with pytest.raises(HostFunctionError, match="not yet") as caught:
                made.call("run")
            assert caught.value.__cause__ is raised
        made.call("run")
        made.call("run")
    assert len(seen) == 3


def test_failures_of_a_nested_plugin(engine: api.Engine) -> None:
    raised = ValueError("inner")

    @host_fn(name="f")
    def fail() -> None:
        raise raised

    with calling(engine, fail, "(call $f) (i32.const 0)") as inner:

        @host_fn(name="f")
        def forward() -> None:
            inner.call("run")

        with calling(engine, forward, "(call $f) (i32.const 0)") as outer:
            with pytest.raises(HostFunctionError) as caught:
                outer.call("run")
            error = caught.value
            assert error.plugin == str(outer.id)
            assert isinstance(error.__cause__, HostFunctionError)
            assert error.__cause__.plugin == str(inner.id)
            assert error.__cause__.__cause__ is raised


def test_plugins_within_plugins(engine: api.Engine) -> None:
    """Each host function runs the next plugin, which was made in the middle of the call."""
    depth = 4

    @host_fn()
    def descend(text: str) -> str:
        if len(text) > depth:
            return text
        made = calling(engine, descend, "(call $out (call $f (call $input_offset))) (i32.const 0)")
        with made:
            output: bytes = made.call("run", text + str(len(text)))
        return output.decode()

    assert echo_through(engine, descend, "0") == b"01234"
