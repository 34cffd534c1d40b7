"""The error tree: what belongs where, what is kept, and what a report says."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import extism_engines as extism
from extism_engines import errors
from extism_engines.errors import Error, Frame, TrapError, TrapKind

from .support import plugin

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, Error)]
FRAMES = (Frame(3, "inner", "guest", 0x1F), Frame(0))
CONTEXT: dict[str, Any] = {"plugin": "p", "function": "f", "engine": "e", "exit_code": -1}


def make(kind: type[Error]) -> Error:
    """An error with everything that its class can hold."""
    more: dict[str, Any] = {}
    if issubclass(kind, TrapError):
        more = {"kind": TrapKind.STACK_OVERFLOW, "frames": FRAMES}
    if issubclass(kind, errors.EngineUnavailableError):
        more = {"reason": "it is not here", "remedy": "get it"}
    return kind("what went wrong", **CONTEXT, **more)


def facts(error: BaseException) -> dict[str, Any]:
    return {"type": type(error), "args": error.args, "str": str(error), **vars(error)}


# -- the tree --------------------------------------------------------------------------------------------------

TREE: dict[str, tuple[type[BaseException], ...]] = {
    "ManifestError": (Error, ValueError),
    "SourceError": (errors.ManifestError,),
    "HashMismatchError": (errors.SourceError,),
    "EngineError": (Error,),
    "EngineNotFoundError": (errors.EngineError, LookupError),
    "EngineUnavailableError": (errors.EngineError,),
    "UnsupportedFeatureError": (errors.EngineError,),
    "EngineFailureError": (errors.EngineError,),
    "ModuleError": (Error,),
    "MalformedModuleError": (errors.ModuleError,),
    "InvalidModuleError": (errors.ModuleError,),
    "LinkError": (Error,),
    "InstantiationError": (Error,),
    "CallError": (Error,),
    "FunctionNotFoundError": (errors.CallError, LookupError),
    "GuestError": (errors.CallError,),
    "TrapError": (errors.CallError,),
    "PluginTimeoutError": (errors.CallError, TimeoutError),
    "CancelledError": (errors.CallError,),
    "OutOfFuelError": (errors.CallError,),
    "OutOfMemoryError": (errors.CallError, MemoryError),
    "PluginExit": (errors.CallError,),
    "HostFunctionError": (errors.CallError,),
    "HttpNotAllowedError": (errors.CallError,),
    "PluginBusyError": (errors.CallError, RuntimeError),
    "PluginClosedError": (Error, TypeError),
    "WrongThreadError": (errors.CallError, RuntimeError),
}


def test_the_tree_is_complete() -> None:
    assert {found.__name__ for found in CLASSES} == {"Error", *TREE}


@pytest.mark.parametrize("name", TREE)
def test_bases(name: str) -> None:
    assert getattr(errors, name).__bases__ == TREE[name]


def test_everything_is_public() -> None:
    for found in [*CLASSES, Frame, TrapKind]:
        assert getattr(extism, found.__name__) is found
        assert found.__name__ in extism.__all__
        assert found.__doc__
    assert extism.ExtismError is Error
    assert Error.__bases__ == (Exception,)


# -- what is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_attributes_and_text(kind: type[Error]) -> None:
    error = make(kind)
    assert str(error) == "what went wrong"
    assert error.args == ("what went wrong",)
    assert (error.plugin, error.function, error.engine, error.exit_code) == ("p", "f", "e", -1)
    bare = kind()
    assert (bare.plugin, bare.function, bare.engine, bare.exit_code) == (None, None, None, None)


def _pickled(protocol: int) -> Callable[[Error], Error]:
    def pickled(error: Error) -> Error:
        again: Error = pickle.loads(pickle.dumps(error, protocol))
        return again

    return pickled


COPIES: list[Callable[[Error], Error]] = [copy.copy, copy.deepcopy]


@pytest.mark.parametrize("again", [*COPIES, *map(_pickled, range(pickle.HIGHEST_PROTOCOL + 1))])
@pytest.mark.parametrize("kind", CLASSES)
def test_errors_survive_pickling_and_copying(kind: type[Error], again: Callable[[Error], Error]) -> None:
    for error in (make(kind), kind("text alone"), kind()):
        assert facts(again(error)) == facts(error)


def test_changed_text_and_notes_survive_too() -> None:
    error = make(TrapError)
    error.args = ("prefix: what went wrong",)
    error.__notes__ = ["note"]  # type: ignore[attr-defined,unused-ignore]
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.__notes__) == ("prefix: what went wrong", ["note"])


def test_subclasses_with_other_arguments_survive() -> None:
    assert facts(pickle.loads(pickle.dumps(Special(4)))) == facts(Special(4))


class Special(errors.GuestError):
    """Somebody's own, with a constructor of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}", exit_code=number)
        self.number = number


@pytest.mark.parametrize("kind", CLASSES)
def test_only_text_is_positional(kind: type[Error]) -> None:
    with pytest.raises(TypeError):
        kind("text", "more")  # type: ignore[call-arg]


def test_context_that_is_known_stays() -> None:
    error = Error("x", plugin="inner", exit_code=0)
    error.add_context(plugin="outer", function="f", engine="e", exit_code=5)
    assert (error.plugin, error.function, error.engine, error.exit_code) == ("inner", "f", "e", 0)
    error.add_context(function="g")
    error.add_context()
    assert error.function == "f"


def test_reasons_of_unavailable_engines() -> None:
    assert str(errors.EngineUnavailableError(reason="why")) == "why"
    assert errors.EngineUnavailableError("text").reason == "text"
    both = errors.EngineUnavailableError("text", reason="why", remedy="how")
    assert (str(both), both.reason, both.remedy) == ("text", "why", "how")


def test_texts_of_traps() -> None:
    for kind in TrapKind:
        assert str(TrapError(kind=kind)) == f"wasm trap: {kind.value}"
    assert (TrapError().kind, TrapError().frames, str(TrapError("own"))) == (TrapKind.OTHER, (), "own")


def test_frames_as_text() -> None:
    assert [str(frame) for frame in (*FRAMES, Frame(7, module_name="m"), Frame(7, "f", module_offset=0))] == [
        "guest!inner at 0x1f", "function[0]", "m!function[7]", "f at 0x0",
    ]  # fmt: skip


# -- reports ---------------------------------------------------------------------------------------------------


def test_a_report_says_everything() -> None:
    assert make(TrapError).report().splitlines() == [
        "what went wrong",
        "  plugin: p",
        "  function: f",
        "  engine: e",
        "  exit code: -1",
        "  trap: call stack exhausted",
        "  frame: guest!inner at 0x1f",
        "  frame: function[0]",
    ]


def test_a_report_says_nothing_that_is_not_known() -> None:
    assert errors.GuestError("bad", exit_code=0).report() == "bad\n  exit code: 0"
    assert errors.GuestError().report() == "GuestError"


def test_a_report_goes_down_to_the_first_cause() -> None:
    error = errors.HostFunctionError("outer")
    error.__cause__ = errors.HostFunctionError("inner")
    error.__cause__.__cause__ = KeyError("key")
    assert error.report().splitlines() == [
        "outer", "  caused by: HostFunctionError: inner", "  caused by: KeyError: 'key'",
    ]  # fmt: skip


def test_a_report_leaves_out_causes_that_add_nothing() -> None:
    error = errors.MalformedModuleError("Unable to compile: wasm[0]: unknown operator\n  --> 2:12 (in the body)")
    error.__cause__ = errors.MalformedModuleError("unknown operator\n  --> 2:12")
    error.__cause__.__cause__ = RuntimeError("unknown operator")
    error.__cause__.__cause__.__cause__ = KeyError("key")
    assert error.report() == f"{error}\n  caused by: KeyError: 'key'"


@pytest.mark.parametrize("text", ["nothing", "outer: nothing", "outer (nothing)", 'outer: "nothing"', "a: nothing: b"])
def test_what_counts_as_told(text: str) -> None:
    error = Error(text)
    error.__cause__ = ValueError("nothing")
    assert error.report() == text


@pytest.mark.parametrize(
    ("text", "cause", "line"),
    [
        ("at line 1", KeyError(1), "KeyError: 1"),
        ("key: 12", KeyError(1), "KeyError: 1"),
        ("outer", ValueError(), "ValueError"),
        (
            "a: no such thing",
            FileNotFoundError(2, "no such thing", "b"),
            "FileNotFoundError: [Errno 2] no such thing: 'b'",
        ),
    ],
)
def test_what_counts_as_new(text: str, cause: Exception, line: str) -> None:
    error = Error(text)
    error.__cause__ = cause
    assert error.report() == f"{text}\n  caused by: {line}"


@pytest.mark.parametrize("name", ["a", b"a", 7, None])
def test_the_system_s_errors_are_told_without_their_number(name: Any) -> None:
    error = errors.SourceError('cannot load "a": no such thing')
    error.__cause__ = OSError(2, "no such thing", name)
    assert "caused by" not in error.report()


def test_a_cause_is_told_once() -> None:
    error = Error("outer")
    error.__cause__ = ValueError("inner: deep")
    error.__cause__.__cause__ = ValueError("deep")
    assert error.report() == "outer\n  caused by: ValueError: inner: deep"


def test_errors_of_a_real_call_survive_pickling() -> None:
    with plugin_that_traps() as made:
        with pytest.raises(TrapError) as caught:
            made.call("f")
        again = pickle.loads(pickle.dumps(caught.value))
        assert facts(again) == facts(caught.value)
        assert (again.plugin, again.function, again.kind) == (str(made.id), "f", TrapKind.UNREACHABLE)


def plugin_that_traps() -> extism.Plugin:
    from .fakes.engine import create

    return plugin(create(None), '(func (export "f") unreachable)')
