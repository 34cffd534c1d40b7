"""What ``@host_fn`` takes and refuses, what it keeps, and which plugins get the function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Optional

import pytest

import extism_engines as extism
from extism_engines import (
    HOST_FN_REGISTRY,
    CurrentPlugin,
    ExplicitFunction,
    Function,
    Json,
    TypeInferredFunction,
    Val,
    ValType,
    host_fn,
)
from extism_engines.engines import api
from extism_engines.host.functions import check_functions
from extism_engines.host.values import type_name

from .hosting import calling, holds, status
from .support import binary

# -- decoration ------------------------------------------------------------------------------------------------


def test_names_and_namespaces(engine: api.Engine) -> None:
    @host_fn(name="other-name", namespace="my:space")
    def give() -> int:
        return 1

    @host_fn(namespace="")
    def bare() -> int:
        return 1

    assert (give.namespace, give.name, give.key) == ("my:space", "other-name", ("my:space", "other-name"))
    assert bare.key == ("", "bare")
    assert holds(engine, give, "(i64.eq (call $f) (i64.const 1))")
    assert holds(engine, bare, "(i64.eq (call $f) (i64.const 1))")


def test_functions_without_a_name_need_one() -> None:
    class Callable_:
        def __call__(self, *_: Any) -> None: ...

    with pytest.raises(TypeError, match="needs name="):
        host_fn(signature=([], []))(Callable_())
    assert host_fn(name="f", signature=([], []))(Callable_()).key == ("extism:host/user", "f")


def unannotated(value):  # type: ignore[no-untyped-def]
    """Nothing is known about what it takes."""


def behind(first, second: int) -> int:  # type: ignore[no-untyped-def]
    """Its second parameter would get what is meant for the first."""
    return second


def by_name(*, number: int) -> int:
    return number


def too_many(number: int, more) -> int:  # type: ignore[no-untyped-def]
    return number


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (unannotated, "unannotated has no annotations to infer its signature from"),
        (behind, "behind: first has no annotation, and second behind it has one"),
        (by_name, "by_name: "),
        (too_many, "too_many: missing a required argument: 'more'"),
    ],
)
def test_functions_that_could_not_be_called(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        host_fn()(function)
    assert text in str(caught.value)
    assert not HOST_FN_REGISTRY


@pytest.mark.parametrize(
    "annotation",
    [None, list, dict[str, str], Optional[str], tuple, Any, Annotated[str, "x"], Annotated[str, Json()], complex,  # noqa: UP045
     CurrentPlugin, tuple[int, int], Ellipsis],
)  # fmt: skip
def test_annotations_that_cannot_pass(annotation: Any) -> None:
    def function(first: int, second: Any) -> int:
        return first

    function.__annotations__["second"] = annotation
    with pytest.raises(TypeError, match="function"):
        host_fn()(function)


@pytest.mark.parametrize(
    "annotation",
    [list, Optional[str], tuple, tuple[int, ...], tuple[tuple[int], int], Any, CurrentPlugin],  # noqa: UP045
)
def test_results_that_cannot_pass(annotation: Any) -> None:
    def function() -> Any: ...

    function.__annotations__["return"] = annotation
    with pytest.raises(TypeError, match="cannot be the type of a result"):
        host_fn()(function)


def test_a_signature_of_unknown_types() -> None:
    with pytest.raises(ValueError, match="is not a valid ValType"):
        host_fn(name="f", signature=([99], []))(lambda *_: None)  # type: ignore[list-item]


def test_value_types_are_those_of_the_official_sdk() -> None:
    assert [(kind.name, kind.value) for kind in ValType] == [
        ("I32", 0), ("PTR", 1), ("F32", 2), ("F64", 3), ("V128", 4), ("FUNC_REF", 5), ("EXTERN_REF", 6),
    ]  # fmt: skip
    assert ValType["I64"] is ValType["PTR"]
    assert repr(Val(ValType.I64, 77)) == "Val(ValType.PTR, 77)"
    function = Function("n", "f", [ValType.I32, ValType.I64], [ValType.F64], print, 1, 2)
    assert (function.args, function.returns, function.f, function.user_data) == ([0, 1], [3], print, (1, 2))


def test_the_type_of_handles_is_called_i64() -> None:
    assert [type_name(kind) for kind in ValType] == ["I32", "I64", "F32", "F64", "V128", "FUNC_REF", "EXTERN_REF"]


def test_values_are_those_of_the_official_sdk() -> None:
    value: Any = Val(ValType.I32, 1)
    value._assign(7)
    value.mark = "of one's own"
    assert (value.value, value.t, value.mark) == (7, ValType.I32, "of one's own")


def test_a_decorated_function_is_known_by_its_own_name() -> None:
    def documented(number: int) -> int:
        """What it does."""
        return number

    documented.tag = "kept"  # type: ignore[attr-defined]
    documented.name = "not this"  # type: ignore[attr-defined]
    signature = ([ValType.I64], [ValType.I64])
    for made in (host_fn(name="f")(documented), host_fn(name="f", signature=signature)(documented)):
        assert (made.__name__, made.__doc__, made.__module__) == ("documented", "What it does.", __name__)
        assert made.__wrapped__ is documented is inspect.unwrap(made)
        assert (made.tag, made.name) == ("kept", "f")  # type: ignore[attr-defined]
        assert isinstance(made, ExplicitFunction)


def test_a_function_without_a_name_is_not_given_one() -> None:
    made = host_fn(name="f", signature=([], []))(functools.partial(print))
    assert not hasattr(made, "__name__")
    assert isinstance(made.__wrapped__, functools.partial)


@pytest.mark.parametrize("given", [unannotated, print, Val, 5, b"name"])
def test_decorating_without_parentheses(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^write @host_fn\(\)"):
        host_fn(given)
    assert not HOST_FN_REGISTRY


def test_classes_are_made_as_in_the_official_sdk(engine: api.Engine) -> None:
    seen: list[Any] = []

    def explicit(_plugin: CurrentPlugin, inputs: list[Val], _outputs: list[Val], *more: Any) -> None:
        seen.append((inputs[0].value, *more))

    def inferred(number: int, *more: Any) -> None:
        seen.append((number, *more))

    made = [
        ExplicitFunction("n", "f", [ValType.I64], [], explicit, [1, "x"]),
        TypeInferredFunction("n", "f", inferred, [1, "x"]),
        Function("n", "f", [ValType.I64], [], explicit, 1, "x"),
    ]
    for function in made:
        assert (function.key, function.user_data) == (("n", "f"), (1, "x"))
        with calling(engine, function, "(call $f (i64.const 5)) (i32.const 0)") as plugin:
            plugin.call("run")
    assert seen == [(5, 1, "x")] * 3
    assert (
        ExplicitFunction("n", "f", [], [], explicit, []).user_data
        == TypeInferredFunction("n", "f", inferred, []).user_data
        == ()
    )


# -- user data -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, ()), (b"", (b"",)), (b"ab", (b"ab",)), ([], ()), ([1, None, "x"], (1, None, "x")), ((1, [2]), (1, [2]))],
)
def test_user_data(engine: api.Engine, given: Any, expected: tuple[Any, ...]) -> None:
    seen: list[tuple[Any, ...]] = []

    @host_fn(name="f", user_data=given)
    def inferred(number: int, *more: Any) -> None:
        seen.append(more)

    @host_fn(name="f", signature=([ValType.I64], []), user_data=given)
    def explicit(_plugin: CurrentPlugin, _inputs: list[Val], _outputs: list[Val], *more: Any) -> None:
        seen.append(more)

    for function in (inferred, explicit):
        assert function.user_data == expected
        with calling(engine, function, "(call $f (i64.const 1)) (i32.const 0)") as made:
            made.call("run")
    assert seen == [expected, expected]


def test_a_list_of_user_data_is_left_as_it_is() -> None:
    data = [1, 2]

    @host_fn(name="f", user_data=data)
    def function(number: int, first, second) -> None: ...  # type: ignore[no-untyped-def]

    assert data == [1, 2]
    data.append(3)
    assert function.user_data == (1, 2)


@pytest.mark.parametrize("given", ["text", 5, {"a": 1}, {1}, object()])
def test_other_user_data_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="user_data is bytes or a list"):
        host_fn(user_data=given)


# -- which functions a plugin gets -----------------------------------------------------------------------------

ASKS = """(module (import "extism:host/user" "give" (func $f (result i64)))
  (func (export "run") (result i32) (i32.wrap_i64 (call $f))))"""


def _plain() -> int:
    return 6


def test_registered_functions_are_the_default(engine: api.Engine) -> None:
    @host_fn()
    def give() -> int:
        return 4

    assert give in HOST_FN_REGISTRY
    with extism.Plugin(binary(ASKS), engine=engine) as made:
        assert status(made) == 4
    for none in (list[Function](), None, ()):
        with pytest.raises(extism.LinkError, match="extism:host/user::give"):
            extism.Plugin(binary(ASKS), functions=none, engine=engine)

    @host_fn(name="give")
    def later() -> int:
        return 5

    with extism.Plugin(binary(ASKS), engine=engine) as made:
        assert status(made) == 5
    with extism.Plugin(binary(ASKS), functions=iter([give]), engine=engine) as made:
        assert status(made) == 4


@pytest.mark.parametrize("given", [_plain, lambda: None, "f", b"f", 5, [5], [_plain], (None,), {"f": _plain}])
def test_functions_that_are_none(given: Any) -> None:
    for make in (extism.CompiledPlugin, extism.Plugin):
        with pytest.raises(TypeError, match=r"functions=\[…\] takes what @host_fn\(\) makes"):
            make(binary(ASKS), functions=given)


def test_a_function_that_is_not_in_a_list() -> None:
    with pytest.raises(TypeError, match=r"functions=\[…\] takes what @host_fn\(\) makes, in a list"):
        extism.Plugin(binary(ASKS), functions=host_fn(name="give")(_plain))  # type: ignore[arg-type]


def test_functions_are_those_of_that_moment() -> None:
    give = host_fn()(_plain)
    assert check_functions(None) == check_functions([]) == ()
    assert check_functions(iter([give])) == check_functions({give}) == (give,)
    given = [give]
    found = check_functions(given)
    given.clear()
    assert found == (give,)


def test_one_function_in_several_plugins(engine: api.Engine) -> None:
    @host_fn()
    def give(plugin: CurrentPlugin) -> int:
        return len(plugin.vars)

    with extism.Plugin(binary(ASKS), functions=[give], engine=engine) as one:
        with extism.Plugin(binary(ASKS), functions=[give], engine=engine) as two:
            one.vars["a"] = b"x"
            assert (status(one), status(two), status(one)) == (1, 0, 1)
        assert status(one) == 1


def test_a_compiled_plugin_keeps_its_functions(engine: api.Engine) -> None:
    compiled = extism.CompiledPlugin(binary(ASKS), functions=[host_fn(name="give")(_plain)], engine=engine)
    with extism.Plugin(compiled) as made:
        assert status(made) == 6


def test_a_decorated_function_has_its_low_level_form() -> None:
    @host_fn(signature=([ValType.I32], [ValType.I32]))
    def explicit(_plugin: Any, inputs: Sequence[Val], outputs: list[Val]) -> str:
        outputs[0].value = inputs[0].value + 1
        return "low"

    outputs = [Val(ValType.I32, 0)]
    assert explicit(None, [Val(ValType.I32, 4)], outputs) == "low"
    assert outputs[0].value == 5

    @host_fn()
    def inferred(number: int) -> int:
        return number * 2

    inferred(None, [Val(ValType.I64, 4)], outputs)
    assert outputs[0].value == 8
    with pytest.raises(TypeError):
        inferred("x")
