"""Closing, calls from inside, signals and threads, on every engine."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .conftest import engine_named
from .support import BAD, CALL_BACK, COUNTER, ECHO, SET_BAD, binary, in_thread, plugin, plugin_text


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


def test_other_threads(engine: api.Engine) -> None:
    with plugin(engine, ECHO) as made:
        assert made.call("echo", b"x") == b"x"
        result = in_thread(lambda: made.call("echo", b"there"))
        if not engine.capabilities.thread_bound:
            assert result == b"there"
            return
        assert isinstance(result, extism.WrongThreadError)
        assert "any_thread=True" in str(result)
        assert isinstance(in_thread(made.reset), extism.WrongThreadError)
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
        assert in_thread(lambda: made.call("echo", b"there")) == b"there"
        assert isinstance(in_thread(lambda: made.call("trap")), extism.TrapError)
        with pytest.raises(extism.HostFunctionError) as caught:
            made.call("f")
        assert isinstance(caught.value.__cause__, KeyError)
        in_thread(made.reset)
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
    assert isinstance(in_thread(lambda: made.call("echo", b"closed")), extism.PluginClosedError)


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

    assert [in_thread(use) for _ in range(3)] == [b"own"] * 3
    assert use() == b"own"


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

    assert in_thread(use, stack=256 << 10) is None
    assert [str(error)[:14] for error in found] == ["the thread has"]


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

    assert in_thread(use, stack=256 << 10) is None
    assert refused
    assert seen == [bytes(3000)]


def test_threads_with_too_little_stack_are_refused() -> None:
    engine = engine_named("wasmtime")
    compiled = extism.CompiledPlugin(binary(plugin_text(ECHO)), engine=engine, functions=[])
    result = in_thread(lambda: extism.Plugin(compiled), stack=512 << 10)
    if sys.platform.startswith("linux"):
        assert isinstance(result, extism.InstantiationError)
        assert "threading.stack_size" in str(result)
