"""Host functions of the user: what passes between ``@host_fn`` and a guest, on every engine."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Tuple  # noqa: UP035 - users of the official SDK write Tuple

import pytest

from extism_engines import (
    HOST_FN_REGISTRY,
    Codec,
    CurrentPlugin,
    ExplicitFunction,
    Function,
    Handle,
    HostFunctionError,
    Json,
    Pickle,
    TypeInferredFunction,
    Val,
    ValType,
    host_fn,
)
from extism_engines.engines import api
from extism_engines.errors import UnsupportedFeatureError

from .hosting import calling, echo_through, fails, holds

# -- explicit --------------------------------------------------------------------------------------------------


def test_an_explicit_function(engine: api.Engine) -> None:
    @host_fn(signature=([ValType.PTR], [ValType.PTR]), user_data=b"!")
    def shout(plugin: CurrentPlugin, inputs: list[Val], outputs: list[Val], mark: bytes) -> str:
        assert [value.t for value in inputs + outputs] == [ValType.PTR, ValType.PTR]
        plugin.return_string(outputs[0], plugin.input_string(inputs[0]).upper() + mark.decode())
        return "ignored"

    assert isinstance(shout, ExplicitFunction)
    assert (shout.namespace, shout.name, shout.args, shout.returns, shout.user_data) == (
        None,
        "shout",
        [1],
        [1],
        (b"!",),
    )
    assert echo_through(engine, shout, "größe") == "GRÖSSE!".encode()


def test_numbers_of_every_type(engine: api.Engine) -> None:
    seen: list[Any] = []

    @host_fn(signature=([ValType.I32, ValType.I64, ValType.F32, ValType.F64], []))
    def take(_plugin: CurrentPlugin, inputs: list[Val], outputs: list[Val]) -> None:
        seen.extend((value.t, value.value) for value in inputs)
        assert outputs == []

    with calling(engine, take, "(call $f (i32.const -1) (i64.const -2) (f32.const 0.5) (f64.const -0.25)) (i32.const 0)",
                 ) as made:  # fmt: skip
        made.call("run")
    assert seen == [(ValType.I32, -1), (ValType.I64, -2), (ValType.F32, 0.5), (ValType.F64, -0.25)]
    assert [type(value) for _, value in seen] == [int, int, float, float]


@pytest.mark.parametrize(
    ("kind", "given", "condition"),
    [
        (ValType.I32, 5, "(i32.eq (call $f) (i32.const 5))"),
        (ValType.I32, -1, "(i32.eq (call $f) (i32.const -1))"),
        (ValType.I32, 2**32 - 1, "(i32.eq (call $f) (i32.const -1))"),
        (ValType.I32, 2**32, "(i32.eq (call $f) (i32.const 0))"),
        (ValType.I32, True, "(i32.eq (call $f) (i32.const 1))"),
        (ValType.I64, 2**63, "(i64.eq (call $f) (i64.const 0x8000000000000000))"),
        (ValType.I64, 2**64 - 1, "(i64.eq (call $f) (i64.const -1))"),
        (ValType.I64, -(2**63), "(i64.eq (call $f) (i64.const 0x8000000000000000))"),
        (ValType.I64, 2**200 + 7, "(i64.eq (call $f) (i64.const 7))"),
        (ValType.F32, 1.5, "(f32.eq (call $f) (f32.const 1.5))"),
        (ValType.F32, 3, "(f32.eq (call $f) (f32.const 3))"),
        (ValType.F32, 1e300, "(f32.eq (call $f) (f32.const inf))"),
        (ValType.F32, -1e300, "(f32.eq (call $f) (f32.const -inf))"),
        (ValType.F32, 1e-300, "(f32.eq (call $f) (f32.const 0))"),
        (ValType.F64, 1e300, "(f64.eq (call $f) (f64.const 1e300))"),
        (ValType.F64, -7, "(f64.eq (call $f) (f64.const -7))"),
        (ValType.F64, math.inf, "(f64.eq (call $f) (f64.const inf))"),
        (ValType.F64, math.nan, "(f64.ne (call $f) (f64.const 0))"),
    ],
)
def test_results_of_explicit_functions(engine: api.Engine, kind: ValType, given: Any, condition: str) -> None:
    @host_fn(name="f", signature=([], [kind]))
    def set_value(_plugin: CurrentPlugin, _inputs: list[Val], outputs: list[Val]) -> None:
        outputs[0].value = given

    @host_fn(name="f", signature=([], [kind]))
    def replace(_plugin: CurrentPlugin, _inputs: list[Val], outputs: list[Val]) -> None:
        outputs[0] = Val(kind, given)

    assert holds(engine, set_value, condition)
    assert holds(engine, replace, condition)


class Whole:
    """An integer as NumPy has its own: no ``int``, but it says that it is one."""

    def __index__(self) -> int:
        return 5


class Real:
    """A number that is no ``float``, likewise."""

    def __float__(self) -> float:
        return 2.5


@pytest.mark.parametrize(
    ("kind", "annotation", "given", "condition"),
    [
        (ValType.I32, bool, Whole(), "(i32.eq (call $f) (i32.const 5))"),
        (ValType.I64, int, Whole(), "(i64.eq (call $f) (i64.const 5))"),
        (ValType.F32, None, Whole(), "(f32.eq (call $f) (f32.const 5))"),
        (ValType.F32, None, Real(), "(f32.eq (call $f) (f32.const 2.5))"),
        (ValType.F64, float, Whole(), "(f64.eq (call $f) (f64.const 5))"),
        (ValType.F64, float, Real(), "(f64.eq (call $f) (f64.const 2.5))"),
        (ValType.F64, float, Fraction(5, 2), "(f64.eq (call $f) (f64.const 2.5))"),
    ],
)
def test_results_of_other_numbers(
    engine: api.Engine, kind: ValType, annotation: Any, given: Any, condition: str
) -> None:
    assert holds(engine, _explicit(kind, lambda outputs: setattr(outputs[0], "value", given)), condition)
    if annotation is not None:

        def give() -> Any:
            return given

        give.__annotations__["return"] = annotation
        assert holds(engine, host_fn(name="f")(give), condition)


def test_results_are_zero_until_they_are_set(engine: api.Engine) -> None:
    for kind, zero in [(ValType.I32, "i32"), (ValType.I64, "i64"), (ValType.F32, "f32"), (ValType.F64, "f64")]:
        function = ExplicitFunction(None, "f", [], [kind], lambda *_: None)
        assert holds(engine, function, f"({zero}.eq (call $f) ({zero}.const 0))")


def _explicit(kind: ValType, change: Callable[[list[Any]], None]) -> Function:
    return ExplicitFunction(None, "f", [], [kind], lambda _plugin, _inputs, outputs: change(outputs))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(ValType.I32, 1.5), (ValType.I32, Real()), (ValType.I64, "1"), (ValType.I64, None), (ValType.I64, b"x"), (ValType.F32, "1.5"),
     (ValType.F64, None), (ValType.F64, [1.0]), (ValType.F64, 1j), (ValType.F64, 10**400), (ValType.F32, 10**400)],
)  # fmt: skip
def test_results_of_the_wrong_type(engine: api.Engine, kind: ValType, value: Any) -> None:
    function = _explicit(kind, lambda outputs: setattr(outputs[0], "value", value))
    error = fails(engine, function, "(drop (call $f)) (i32.const 0)")
    assert isinstance(error.__cause__, OverflowError if isinstance(value, int) else TypeError)
    assert str(error).startswith("host function extism:host/user::f raised ")
    if isinstance(error.__cause__, TypeError):
        name = {ValType.I32: "I32", ValType.I64: "I64", ValType.F32: "F32", ValType.F64: "F64"}[kind]
        assert f" is expected for a result of type {name}, got {type(value).__name__}" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda outputs: outputs.clear(),
        lambda outputs: outputs.append(Val(ValType.I32, 1)),
        lambda outputs: outputs.__setitem__(0, Val(ValType.I64, 1)),
        lambda outputs: outputs.__setitem__(0, 5),
    ],
)
def test_outputs_that_do_not_fit_the_signature(engine: api.Engine, change: Callable[[list[Any]], None]) -> None:
    error = fails(engine, _explicit(ValType.I32, change), "(drop (call $f)) (i32.const 0)")
    assert isinstance(error.__cause__, TypeError)


@pytest.mark.parametrize("kind", [ValType.V128, ValType.FUNC_REF, ValType.EXTERN_REF])
def test_vectors_and_references_are_refused_when_the_function_is_made(kind: ValType) -> None:
    signatures: list[tuple[list[ValType], list[ValType]]] = [([kind], []), ([], [kind])]
    for signature in signatures:
        with pytest.raises(UnsupportedFeatureError, match=f"extism:host/user::f: values of type {kind.name}"):
            host_fn(name="f", signature=signature)(lambda *_: None)
    assert not HOST_FN_REGISTRY


def test_several_results_of_an_explicit_function(engine: api.Engine) -> None:
    if "multi-value" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no multi-value")

    @host_fn(name="f", signature=([ValType.I64], [ValType.F32, ValType.I32, ValType.I64]))
    def split(_plugin: CurrentPlugin, inputs: list[Val], outputs: list[Val]) -> None:
        for slot, value in zip(outputs, (0.5, 2**32 - 2, inputs[0].value), strict=True):
            slot.value = value

    body = """(call $f (i64.const 9)) (if (i64.ne (i64.const 9)) (then unreachable))
      (if (i32.ne (i32.const -2)) (then unreachable)) (f32.ne (f32.const 0.5))"""
    with calling(engine, split, body) as made:
        assert made.call("run") == b""


# -- inferred --------------------------------------------------------------------------------------------------


def test_text(engine: api.Engine) -> None:
    @host_fn()
    def reverse(text: str) -> str:
        return text[::-1]

    assert isinstance(reverse, TypeInferredFunction)
    assert (reverse.args, reverse.returns) == ([1], [1])
    for text in ("", "a", "äöü€😀", "x" * 100_000, "with\0nul"):
        assert echo_through(engine, reverse, text) == text[::-1].encode()


def test_bytes(engine: api.Engine) -> None:
    @host_fn()
    def reverse(data: bytes) -> bytes:
        assert type(data) is bytes
        return data[::-1]

    for data in (b"", b"\0", bytes(range(256)), b"x" * 200_000):
        assert echo_through(engine, reverse, data) == data[::-1]


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_results_of_bytes_may_be_any_bytes(engine: api.Engine, make: Callable[[bytes], Any]) -> None:
    @host_fn()
    def give() -> bytes:
        result: bytes = make(b"abc")
        return result

    with calling(engine, give, "(call $out (call $f)) (i32.const 0)") as made:
        assert made.call("run") == b"abc"


def test_an_empty_result_is_handle_0(engine: api.Engine) -> None:
    @host_fn()
    def text() -> str:
        return ""

    @host_fn()
    def data() -> bytes:
        return b""

    assert holds(engine, text, "(i64.eqz (call $f))")
    assert holds(engine, data, "(i64.eqz (call $f))")


def test_integers_are_plain_numbers(engine: api.Engine) -> None:
    seen: list[int] = []

    @host_fn()
    def add(a: int, b: int) -> int:
        seen.extend((a, b))
        return a + b

    assert (add.args, add.returns) == ([1, 1], [1])
    assert holds(engine, add, "(i64.eq (call $f (i64.const 40) (i64.const -42)) (i64.const -2))")
    assert holds(engine, add, "(i64.eqz (call $f (i64.const 0x8000000000000000) (i64.const 0x8000000000000000)))")
    assert seen == [40, -42, -(2**63), -(2**63)]


def test_floats(engine: api.Engine) -> None:
    @host_fn()
    def half(number: float) -> float:
        assert type(number) is float
        return number / 2

    assert (half.args, half.returns) == ([3], [3])
    assert holds(engine, half, "(f64.eq (call $f (f64.const 5)) (f64.const 2.5))")
    assert holds(engine, half, "(f64.eq (call $f (f64.const -inf)) (f64.const -inf))")

    @host_fn()
    def whole() -> float:
        return 3

    assert holds(engine, whole, "(f64.eq (call $f) (f64.const 3))")


def test_booleans(engine: api.Engine) -> None:
    seen: list[bool] = []

    @host_fn()
    def invert(flag: bool) -> bool:
        seen.append(flag)
        return not flag

    assert (invert.args, invert.returns) == ([0], [0])
    assert holds(engine, invert, "(i32.eq (call $f (i32.const 0)) (i32.const 1))")
    assert holds(engine, invert, "(i32.eq (call $f (i32.const 7)) (i32.const 0))")
    assert seen == [False, True]
    assert all(type(flag) is bool for flag in seen)


def test_json(engine: api.Engine) -> None:
    @host_fn()
    def count(value: Annotated[dict[str, Any], Json]) -> Annotated[dict[str, Any], Json]:
        return {"keys": sorted(value), "text": "ä"}

    assert echo_through(engine, count, '{"b": [1], "a": null}') == b'{"keys": ["a", "b"], "text": "\\u00e4"}'
    error = fails(engine, count, "(drop (call $f (call $input_offset))) (i32.const 0)")
    assert isinstance(error.__cause__, ValueError)


def test_codecs(engine: api.Engine) -> None:
    @host_fn()
    def add(value: Annotated[int, Codec(lambda data: int(data))]) -> Annotated[int, Codec(lambda n: str(n).encode())]:
        return value + 1

    assert echo_through(engine, add, b"41") == b"42"


def test_pickle_for_results_only(engine: api.Engine) -> None:
    @host_fn()
    def give(_text: str) -> Annotated[Any, Pickle]:
        return {"a": (1, 2)}

    assert pickle.loads(echo_through(engine, give, "x")) == {"a": (1, 2)}
    with pytest.raises(TypeError, match="code of the guest's choice"):

        @host_fn()
        def take(value: Annotated[Any, Pickle]) -> None: ...


def test_handles_of_one_s_own(engine: api.Engine) -> None:
    @host_fn()
    def make(plugin: CurrentPlugin, text: str) -> Handle:
        memory = plugin.alloc(len(text) + 1)
        plugin.memory(memory)[:] = text.encode() + b"."
        return Handle(memory.offset)

    assert make.returns == [1]
    assert echo_through(engine, make, "own") == b"own."


def test_tuples(engine: api.Engine) -> None:
    @host_fn(name="f")
    def many(number: int) -> Tuple[int, float, bool]:  # noqa: UP006
        return number + 1, number / 2, True

    @host_fn(name="f")
    def one(number: int) -> tuple[int]:
        return (number * 2,)

    @host_fn(name="f")
    def none(number: int) -> tuple[()]:
        return ()

    assert many.returns == [1, 3, 0]
    assert none.returns == []
    assert holds(engine, one, "(i64.eq (call $f (i64.const 4)) (i64.const 8))")
    with calling(engine, none, "(call $f (i64.const 1)) (i32.const 0)") as made:
        assert made.call("run") == b""
    if "multi-value" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no multi-value")
    body = """(call $f (i64.const 5)) (if (i32.ne (i32.const 1)) (then unreachable))
      (if (f64.ne (f64.const 2.5)) (then unreachable)) (i64.ne (i64.const 6))"""
    with calling(engine, many, body) as made:
        assert made.call("run") == b""


def test_several_blocks_in_a_tuple(engine: api.Engine) -> None:
    if "multi-value" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no multi-value")

    @host_fn(name="f")
    def split(text: str) -> tuple[str, bytes]:
        head, _, tail = text.partition(",")
        return head, tail.encode()

    for pick, expected in [("(drop) (call $out)", b"a"), ("(call $out) (drop)", b"bc")]:
        with calling(engine, split, f"(call $f (call $input_offset)) {pick} (i32.const 0)") as made:
            assert made.call("run", "a,bc") == expected


def test_no_result(engine: api.Engine) -> None:
    seen: list[str] = []

    @host_fn(name="f")
    def unannotated(text: str):  # type: ignore[no-untyped-def]
        seen.append(text)
        return "ignored"

    @host_fn(name="f")
    def annotated(text: str) -> None:
        seen.append(text)

    for function in (unannotated, annotated):
        assert function.returns == []
        with calling(engine, function, "(call $f (call $input_offset)) (i32.const 0)") as made:
            made.call("run", "a")
    assert seen == ["a", "a"]


def test_no_parameters(engine: api.Engine) -> None:
    @host_fn(name="f")
    def nothing() -> None: ...

    assert (nothing.args, nothing.returns) == ([], [])
    with calling(engine, nothing, "(call $f) (i32.const 0)") as made:
        assert made.call("run") == b""


def test_the_plugin_as_first_parameter(engine: api.Engine) -> None:
    @host_fn()
    def greet(plugin: CurrentPlugin, name: str) -> str:
        return f"{plugin.config['greeting']}, {name}!"

    with calling(engine, greet, "(call $out (call $f (call $input_offset))) (i32.const 0)",
                 config={"greeting": "Hello"}) as made:  # fmt: skip
        assert made.call("run", "World") == b"Hello, World!"


@pytest.mark.parametrize(
    ("annotation", "given"),
    [(str, b"x"), (str, 5), (str, None), (bytes, "x"), (bytes, 5), (bytes, [1]), (int, "1"), (int, 1.0), (int, None),
     (float, "1"), (float, None), (bool, "x"), (bool, 1.0), (tuple[int, int], 5), (tuple[int, int], (1,)),
     (tuple[int, int], (1, 2, 3)), (tuple[int, int], None), (tuple[int, int], (1, "x")), (tuple[int, int], "ab"),
     (Annotated[Any, Json], {1, 2}), (Annotated[Any, Codec(lambda value: value)], "text"), (Handle, "x")],
)  # fmt: skip
def test_inferred_results_of_the_wrong_type(engine: api.Engine, annotation: Any, given: Any) -> None:
    def give() -> Any:
        return given

    give.__annotations__["return"] = annotation
    function = host_fn(name="f")(give)
    if len(function.returns) > 1 and "multi-value" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no multi-value")
    error = fails(engine, function, "(call $f)" + "(drop)" * len(function.returns) + "(i32.const 0)")
    assert isinstance(error.__cause__, TypeError)


def test_arguments_that_are_no_blocks(engine: api.Engine) -> None:
    @host_fn(name="f")
    def take(data: bytes) -> None: ...

    for handle in ("(i64.const 12345)", "(i64.const -1)", "(i64.add (call $input_offset) (i64.const 1))"):
        error = fails(engine, take, f"(call $f {handle}) (i32.const 0)")
        assert "invalid handle offset for argument: " in str(error)
    assert "18446744073709551615" in str(fails(engine, take, "(call $f (i64.const -1)) (i32.const 0)"))


def test_text_that_is_not_utf_8(engine: api.Engine) -> None:
    @host_fn(name="f")
    def take(text: str) -> None: ...

    with calling(engine, take, "(call $f (call $input_offset)) (i32.const 0)") as made:
        with pytest.raises(HostFunctionError) as caught:
            made.call("run", b"\xff")
        assert isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_arguments_stay_the_guest_s(engine: api.Engine) -> None:
    @host_fn(name="f")
    def take(data: bytes) -> None: ...

    with calling(engine, take, "(call $f (call $input_offset)) (call $out (call $input_offset)) (i32.const 0)") as made:
        assert made.call("run", b"still here") == b"still here"
