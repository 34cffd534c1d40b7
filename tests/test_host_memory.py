"""The plugin as its host functions see it: blocks, views on them, what else is within reach, in the middle of a call."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

import extism_engines as extism
from extism_engines import CurrentPlugin, ExplicitFunction, HostFunctionError, Memory, Val, ValType
from extism_engines.engines import api
from extism_engines.errors import OutOfMemoryError, PluginBusyError, PluginClosedError
from extism_engines.host.memory import MemoryView

from .support import plugin

CALL = "(call $out (call $f (call $input_offset))) (i32.const 0)"
IMPORT = '(import "extism:host/user" "f" (func $f (param i64) (result i64)))'

Body = Callable[[CurrentPlugin, Val, Val], Any]


def calling(engine: api.Engine, body: Body, text: str = CALL, **options: Any) -> extism.Plugin:
    """A plugin whose export ``run`` hands its input to a host function, and gives back what that makes of it."""

    def f(current: CurrentPlugin, inputs: list[Val], outputs: list[Val]) -> None:
        body(current, inputs[0], outputs[0])

    function = ExplicitFunction(None, "f", [ValType.PTR], [ValType.PTR], f)
    return plugin(engine, f'(func (export "run") (result i32) {text})', IMPORT, functions=[function], **options)


def during(engine: api.Engine, body: Body, data: bytes = b"input", text: str = CALL, **options: Any) -> bytes:
    """The output of such a plugin."""
    with calling(engine, body, text, **options) as made:
        output: bytes = made.call("run", data)
        return output


# -- inputs and outputs ----------------------------------------------------------------------------------------


def test_inputs_as_bytes_text_and_view(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, result: Val) -> None:
        assert current.input_bytes(given) == "ä€".encode()
        assert current.input_string(given) == "ä€"
        view = current.input_buffer(given)
        assert (len(view), bytes(view), view[:]) == (5, "ä€".encode(), "ä€".encode())
        assert view[:].decode() == "ä€"
        current.return_string(result, "ü")

    assert during(engine, body, "ä€".encode()) == "ü".encode()


def test_nothing_is_handle_0(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, result: Val) -> None:
        assert given.value == 0
        assert current.input_bytes(given) == b""
        assert current.input_string(given) == ""
        assert len(current.input_buffer(given)) == 0
        assert current.input_buffer(given)[:] == b""
        current.return_bytes(result, b"")
        assert result.value == 0
        current.return_string(result, "")
        assert result.value == 0

    assert during(engine, body, b"") == b""


@pytest.mark.parametrize("handle", [1, 12345, -1, -(2**63), 2**63, 2**40])
def test_handles_of_nothing(engine: api.Engine, handle: int) -> None:
    def body(current: CurrentPlugin, given: Val, _result: Val) -> None:
        for each in (handle, given.value + 1):
            assert current.memory_at_offset(each).length == 0
            assert current.memory_at_offset(Val(ValType.PTR, each)).length == 0
            assert current.input_bytes(Val(ValType.PTR, each)) == b""
            assert current.input_string(Val(ValType.PTR, each)) == ""
            assert bytes(current.input_buffer(Val(ValType.PTR, each))) == b""
            current.free(Memory(each, 5))
        assert current.input_bytes(given) == b"input"

    during(engine, body)


def test_text_that_is_not_utf_8(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, _result: Val) -> None:
        with pytest.raises(UnicodeDecodeError):
            current.input_string(given)

    during(engine, body, b"\xff")


@pytest.mark.parametrize("data", [b"a", bytearray(b"abc"), memoryview(b"a" * 100), b"x" * 1_000_000])
def test_results_of_any_bytes(engine: api.Engine, data: Any) -> None:
    assert during(engine, lambda current, _given, result: current.return_bytes(result, data)) == bytes(data)


@pytest.mark.parametrize("data", [5, "text", None, [1, 2]])
def test_results_of_something_else(engine: api.Engine, data: Any) -> None:
    def body(current: CurrentPlugin, _given: Val, result: Val) -> None:
        with pytest.raises(TypeError):
            current.return_bytes(result, data)
        assert result.value == 0

    during(engine, body)


# -- blocks ----------------------------------------------------------------------------------------------------


def test_blocks(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, result: Val) -> None:
        memory = current.alloc(4)
        assert isinstance(memory, Memory)
        assert (memory.length, len(memory)) == (4, 4)
        assert repr(memory) == f"Memory(offset={memory.offset}, length=4)"
        found = current.memory_at_offset(memory.offset)
        assert (found.offset, found.length) == (memory.offset, 4)
        assert current.memory_at_offset(given).length == 5
        other = current.alloc(3)
        current.free(memory)
        assert current.memory_at_offset(memory.offset).length == 0
        current.free(memory)
        current.memory(other)[:] = b"out"
        result.value = other.offset

    assert during(engine, body) == b"out"


def test_blocks_of_no_bytes(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, _given: Val, _result: Val) -> None:
        memory = current.alloc(0)
        assert (memory.offset, memory.length) == (0, 0)
        assert current.memory(memory)[:] == b""
        current.memory(memory)[:] = b""
        current.free(memory)
        with pytest.raises(OverflowError):
            current.alloc(-1)

    during(engine, body)


@pytest.mark.parametrize("size", [2**32, 2**40, 2**64, 2**100])
def test_blocks_that_are_too_large(engine: api.Engine, size: int) -> None:
    def body(current: CurrentPlugin, given: Val, _result: Val) -> None:
        with pytest.raises(OutOfMemoryError):
            current.alloc(size)
        assert current.input_bytes(given) == b"input"

    during(engine, body)


def test_results_beyond_the_limit_are_oom(engine: api.Engine) -> None:
    """In the reference, a result for which there is no room is written over the kernel's own state."""
    with calling(
        engine, lambda current, _given, result: current.return_bytes(result, bytes(200_000)),
        limits=extism.Limits(memory_pages=2),
    ) as made:  # fmt: skip
        with pytest.raises(HostFunctionError, match="oom") as caught:
            made.call("run")
        assert isinstance(caught.value.__cause__, OutOfMemoryError)
    assert during(engine, lambda current, _given, result: current.return_bytes(result, bytes(100_000)),
                  limits=extism.Limits(memory_pages=2)) == bytes(100_000)  # fmt: skip


# -- views -----------------------------------------------------------------------------------------------------


def test_reading_a_view(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, _result: Val) -> None:
        view = current.input_buffer(given)
        assert view[:] == b"input"
        assert type(view[:]) is type(view[1:3]) is type(view[0]) is bytes
        assert (view[1:3], view[-2:], view[9:], view[3:1]) == (b"np", b"ut", b"", b"")
        assert (view[::2], view[1::3], view[::-1], view[3:0:-2], view[:9:4]) == (b"ipt", b"nt", b"tupni", b"un", b"it")
        assert (view[0], view[-1], view[-5]) == (b"i", b"t", b"i")
        assert list(view) == [b"i", b"n", b"p", b"u", b"t"] == list(reversed(view))[::-1]
        assert b"i" in view and b"np" in view and 0x70 in view and b"x" not in view
        for index in (5, -6, 2**70):
            with pytest.raises(IndexError):
                view[index]
        for wrong in (1.0, "1", None):
            with pytest.raises(TypeError):
                view[wrong]

    during(engine, body)


def test_a_view_stands_for_its_bytes(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, result: Val) -> None:
        view, again = current.input_buffer(given), current.input_buffer(given)
        for same in (b"input", bytearray(b"input"), memoryview(b"input"), again):
            assert view == same and same == view and (view != same) is False
            assert view <= same and view >= same and not view < same
        for other in (b"inpu", b"", b"INPUT", "input", 5, None, list(b"input")):
            assert view != other and other != view
        assert b"inpus" < view < b"inpuu" and bytearray(b"z") > view
        assert (view + b"!", b"!" + view, view + again) == (b"input!", b"!input", b"inputinput")
        assert type(bytearray(b"!") + view) is bytearray
        bad: list[Callable[[], Any]] = [lambda: hash(view), lambda: view + "x", lambda: "x" + view, lambda: view < "x"]
        for use in bad:
            with pytest.raises(TypeError):
                use()
        # In C, only bytes themselves will do.
        in_c: list[Callable[..., Any]] = [
            memoryview,
            bytearray,
            lambda it: b"".join([it]),
            lambda it: struct.unpack_from("<B", it),
        ]
        for use in in_c:
            with pytest.raises(TypeError):
                use(view)
        assert struct.unpack_from("<B", view[:]) == (ord("i"),)
        assert repr(view) == f"<MemoryView of 5 bytes at {given.value}>"
        current.vars["kept"] = view  # type: ignore[assignment]
        assert current.vars["kept"] == b"input"
        current.return_bytes(result, again)

    assert during(engine, body) == b"input"


def test_a_view_is_a_result_of_bytes(engine: api.Engine) -> None:
    @extism.host_fn()
    def f(current: CurrentPlugin, data: bytes) -> bytes:
        memory = current.alloc(len(data))
        view = current.memory(memory)
        view[:] = data[::-1]
        return view  # type: ignore[return-value]

    with plugin(engine, f'(func (export "run") (result i32) {CALL})', IMPORT, functions=[f]) as made:
        assert made.call("run", "abc") == b"cba"


def test_a_large_view_is_gone_through_in_one_go(engine: api.Engine) -> None:
    """Byte after byte out of fresh copies would take hours."""

    def body(current: CurrentPlugin, given: Val, _result: Val) -> None:
        view = current.input_buffer(given)
        assert b"".join(view) == b"\1" * 300_000
        assert all(view[i] == b"\1" for i in range(0, 300_000, 30))

    during(engine, body, b"\1" * 300_000, "(drop (call $f (call $input_offset))) (i32.const 0)")


class _Accesses:
    """A memory that notes which bytes of it are read and written."""

    def __init__(self, data: bytes) -> None:
        self.memory = self
        self.data = bytearray(data)
        self.seen: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.seen.append((offset, length))
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.seen.append((offset, len(data)))
        self.data[offset : offset + len(data)] = data


def test_a_view_touches_only_what_it_is_asked_for() -> None:
    kernel: Any = _Accesses(bytes(range(20)))
    view = MemoryView(kernel, Memory(5, 10))
    assert (view[3], view[2:4], view[1:8:3], view[8:1:-3], view[4:4]) == (
        b"\x08",
        b"\x07\x08",
        b"\x06\x09\x0c",
        b"\x0d\x0a\x07",
        b"",
    )
    assert kernel.seen == [(8, 1), (7, 2), (6, 7), (7, 7)]
    kernel.seen.clear()
    view[0], view[8:], view[3:3] = b"Z", b"ab", b""
    assert kernel.seen == [(5, 1), (13, 2)]
    view[1:8:3] = b"xyz"
    assert kernel.seen[2:] == [(6, 7), (6, 7)]
    expected = bytearray(range(20))
    expected[5:6], expected[13:15], expected[6:13:3] = b"Z", b"ab", b"xyz"
    assert kernel.data == expected


@pytest.mark.parametrize("step", [-4, -3, -1, 1, 2, 3, 7])
def test_slices_of_views_are_those_of_bytes(step: int) -> None:
    data = bytes(range(7))
    for start in (None, *range(-9, 10)):
        for stop in (None, *range(-9, 10)):
            index = slice(start, stop, step)
            kernel: Any = _Accesses(data)
            view = MemoryView(kernel, Memory(0, 7))
            assert view[index] == data[index]
            expected = bytearray(data)
            fresh = bytes(range(100, 100 + len(data[index])))
            if fresh or step != 1:
                expected[index] = fresh
            view[index] = fresh
            assert kernel.data == expected
            with pytest.raises(ValueError, match="bytes can be written there"):
                view[index] = fresh + b"x"
            assert kernel.data == expected


def test_writing_through_a_view(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, result: Val) -> None:
        view = current.input_buffer(given)
        view[0] = ord("I")
        view[-4] = b"N"
        view[2:3] = bytearray(b"P")
        view[-1:] = memoryview(b"T")
        assert view[:] == b"INPuT"
        view[::2] = b"ipt"
        view[3::-2] = b"un"
        assert view[:] == b"input"
        again = current.memory(current.memory_at_offset(given))
        view[:] = again
        view[:] = b"other"
        assert again[:] == b"other"
        for wrong in (b"longer than it", b"less", b""):
            with pytest.raises(ValueError, match=f"5 bytes can be written there, not {len(wrong)}"):
                view[:] = wrong
        for index in (5, -6):
            with pytest.raises(IndexError):
                view[index] = 0
        for number in (256, -1):
            with pytest.raises(ValueError, match="range"):
                view[0] = number
        for no_byte in ("x", b"", b"xy", 1.0, None):
            with pytest.raises(TypeError):
                view[0] = no_byte
        for no_bytes in ("other", [1, 2, 3, 4, 5], 5, None):
            with pytest.raises(TypeError):
                view[:] = no_bytes
        assert again[:] == b"other"
        result.value = given.value

    assert during(engine, body) == b"other"


def test_a_view_outlives_growth(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, given: Val, result: Val) -> None:
        memory = current.alloc(3)
        before, own = current.input_buffer(given), current.memory(memory)
        for _ in range(20):
            current.alloc(300_000)
            assert before[:] == b"input"
            own[:] = b"abc"
            assert own[:] == b"abc"
        result.value = memory.offset

    assert during(engine, body) == b"abc"


def test_a_view_beyond_the_memory(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, _given: Val, _result: Val) -> None:
        for offset, length in [(2**32 - 2, 5), (2**40, 1), (-5, 3)]:
            view = current.memory(Memory(offset, length))
            with pytest.raises(IndexError):
                bytes(view)
            with pytest.raises(IndexError):
                view[:] = bytes(length)

    during(engine, body)


def test_what_is_kept_refuses_after_the_plugin_is_closed(engine: api.Engine) -> None:
    kept: list[Any] = []

    def body(current: CurrentPlugin, given: Val, _result: Val) -> None:
        kept[:] = [current, current.input_buffer(given)]

    during(engine, body)
    current, view = kept
    uses: list[Callable[[], Any]] = [lambda: view[:], lambda: current.alloc(5), lambda: current.set_error("x")]
    for use in uses:
        with pytest.raises(PluginClosedError):
            use()


# -- the call that is running ----------------------------------------------------------------------------------


def test_host_context(engine: api.Engine) -> None:
    seen: list[Any] = []
    given = object()
    with calling(engine, lambda current, _given, _result: seen.append(current.host_context())) as made:
        made.call("run", host_context=given)
        made.call("run")
        made.call("run", host_context=0)
        made.call("run", host_context=None)
    assert seen[0] is given
    assert seen[1:] == [None, 0, None]


def test_the_context_ends_with_the_call_even_when_it_fails(engine: api.Engine) -> None:
    seen: list[Any] = []

    def body(current: CurrentPlugin, _given: Val, _result: Val) -> None:
        seen.append(current.host_context())
        if seen[-1]:
            raise ValueError

    with calling(engine, body) as made:
        with pytest.raises(HostFunctionError):
            made.call("run", host_context="context")
        made.call("run")
    assert seen == ["context", None]


def test_vars_and_config(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, _given: Val, result: Val) -> None:
        assert dict(current.config) == {"a": "b"}
        current.vars["count"] = b"%d" % (int(current.vars.get("count", b"0")) + 1)
        current.return_bytes(result, current.vars["count"])

    with calling(engine, body, config={"a": "b"}) as made:
        assert [made.call("run") for _ in range(3)] == [b"1", b"2", b"3"]
        assert dict(made.vars) == {"count": b"3"}
        made.vars["count"] = b"10"
        assert made.call("run") == b"11"


def test_set_error(engine: api.Engine) -> None:
    with calling(engine, lambda current, _given, _result: current.set_error("no «luck»")) as made:
        for _ in range(2):
            with pytest.raises(extism.GuestError, match="^no «luck»$") as caught:
                made.call("run")
            assert caught.value.exit_code == 0


def test_an_error_is_taken_back(engine: api.Engine) -> None:
    def body(current: CurrentPlugin, _given: Val, _result: Val) -> None:
        current.set_error("bad")
        current.set_error("")

    assert during(engine, body) == b""


def test_an_error_text_before_an_exception(engine: api.Engine) -> None:
    """The exception is what went wrong; it is never replaced by a text."""
    raised = ValueError("why")

    def body(current: CurrentPlugin, _given: Val, _result: Val) -> None:
        current.set_error("text")
        raise raised

    with calling(engine, body) as made, pytest.raises(HostFunctionError, match="why") as caught:
        made.call("run")
    assert caught.value.__cause__ is raised


def test_the_plugin_cannot_be_called_closed_or_reset_from_inside(engine: api.Engine) -> None:
    made: extism.Plugin

    def body(_current: CurrentPlugin, _given: Val, _result: Val) -> None:
        uses: list[Callable[[], Any]] = [lambda: made.call("run"), made.close, made.reset]
        for use in uses:
            with pytest.raises(PluginBusyError):
                use()

    with calling(engine, body) as made:
        assert made.call("run") == b""
        assert made.call("run") == b""


def test_calls_of_different_plugins_do_not_mix(engine: api.Engine) -> None:
    def shout(current: CurrentPlugin, given: Val, result: Val) -> None:
        current.return_bytes(result, current.input_bytes(given).upper())

    with calling(engine, shout) as inner:

        def body(current: CurrentPlugin, given: Val, result: Val) -> None:
            memory = current.alloc(3)
            current.memory(memory)[:] = b"own"
            answer = inner.call("run", current.input_bytes(given) * 2)
            assert current.input_bytes(given) == b"input"
            current.return_bytes(result, answer + current.memory(memory)[:])

        assert during(engine, body) == b"INPUTINPUTown"
