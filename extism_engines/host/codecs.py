"""From annotations of a host function to conversions of its parameters and results (section 10.3 of the description)."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import attrs

from ..errors import UnsupportedFeatureError
from .current import CurrentPlugin
from .values import ValType


class Json:
    """Marker: ``Annotated[T, Json]`` passes a value as JSON."""


class Pickle:
    """Marker: ``Annotated[T, Pickle]`` passes a value pickled.

    Loading what a guest pickled runs whatever the guest wants, outside of its sandbox. It is refused; only results may
    be passed this way.
    """


class Codec:
    """Marker: ``Annotated[T, Codec(function)]`` passes a value through a function: of bytes for a parameter, to bytes for
    a result."""

    def __init__(self, codec: Callable[[Any], Any]) -> None:
        self.codec = codec


class Handle(int):
    """Annotation of a result: the number is the handle of a block that the function has made itself."""


@attrs.frozen
class Conversion:
    """How one parameter or result passes the border.

    Attributes:
        type: Its type in wasm.
        decode: From the number that the guest passed to the value for the function.
        encode: From what the function gave to the number for the guest.
    """

    type: ValType
    decode: Callable[[CurrentPlugin, Any], Any]
    encode: Callable[[CurrentPlugin, Any], Any]


@attrs.frozen
class Signature:
    """The conversions of a whole function."""

    params: tuple[Conversion, ...]
    results: tuple[Conversion, ...]
    takes_plugin: bool
    returns_tuple: bool

    def decode(self, plugin: CurrentPlugin, numbers: tuple[Any, ...]) -> list[Any]:
        """The arguments for the function."""
        values = [param.decode(plugin, number) for param, number in zip(self.params, numbers, strict=True)]
        return [plugin, *values] if self.takes_plugin else values

    def encode(self, plugin: CurrentPlugin, given: Any) -> Any:
        """The result, or the tuple of results, for the guest."""
        if not self.results:
            return None
        if not self.returns_tuple:
            return self.results[0].encode(plugin, given)
        if not isinstance(given, (tuple, list)) or len(given) != len(self.results):
            raise TypeError(f"a tuple of {len(self.results)} values expected, got {given!r:.100}")
        return tuple(result.encode(plugin, value) for result, value in zip(self.results, given, strict=True))


def infer(function: Callable[..., Any]) -> Signature:
    """Reads a function's annotations.

    Raises:
        TypeError: There is none at all, or one is not of a kind that can pass.
    """
    hints = get_type_hints(function, include_extras=True)
    if not hints:
        raise TypeError(
            f"{_name(function)} has no annotations to infer its signature from; annotate it or give signature=…"
        )
    has_result = "return" in hints
    result = hints.pop("return", None)
    params = [hints[name] for name in inspect.signature(function).parameters if name in hints]
    takes_plugin = bool(params) and params[0] is CurrentPlugin
    try:
        conversions = tuple(_conversion(annotation, "parameter") for annotation in params[takes_plugin:])
        returns_tuple = get_origin(result) is tuple
        kinds = get_args(result) if returns_tuple else (result,) if has_result else ()
        results = tuple(_conversion(annotation, "result") for annotation in kinds)
    except TypeError as error:
        raise TypeError(f"{_name(function)}: {error}") from None
    return Signature(conversions, results, takes_plugin, returns_tuple)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _conversion(annotation: Any, role: str) -> Conversion:
    if get_origin(annotation) is Annotated:
        return _annotated(annotation, role)
    found = _PLAIN.get(annotation) if isinstance(annotation, type) else None
    if found is None:
        raise TypeError(
            f"{annotation!r} cannot be the type of a {role}: str, bytes, int, float, bool, "
            "or Annotated[…, Json | Pickle | Codec(…)]"
        )
    return found


def _annotated(annotation: Any, role: str) -> Conversion:
    for marker in get_args(annotation)[1:]:
        if marker is Json:
            return _block(json.loads, lambda value: json.dumps(value).encode())
        if marker is Pickle:
            if role == "parameter":
                raise TypeError(
                    "Pickle as the type of a parameter would run code of the guest's choice in the host; use Json or Codec"
                )
            return _block(_refuse_pickle, pickle.dumps)
        if isinstance(marker, Codec):
            return _block(marker.codec, marker.codec)
    raise TypeError(f"{annotation!r} has no marker that says how the value passes: Json, Pickle or Codec(…)")


def _refuse_pickle(_data: bytes) -> Any:
    raise UnsupportedFeatureError("pickled data from a guest is not loaded")


def _block(decode: Callable[[bytes], Any], encode: Callable[[Any], Any]) -> Conversion:
    """Values that pass as a block of bytes."""

    def to_handle(plugin: CurrentPlugin, value: Any) -> int:
        data = encode(value)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes expected, got {type(data).__name__}")
        return plugin.write_handle(bytes(data))

    return Conversion(
        ValType.I64,
        lambda plugin, handle: decode(plugin.read_handle(handle, "argument")),
        to_handle,
    )


def _of_type(*types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, types):
            raise TypeError(f"{types[0].__name__} expected, got {type(value).__name__}")
        return value

    return check


def _number(type: ValType, decode: Callable[[Any], Any], *types: type) -> Conversion:
    """Values that pass as they are."""
    check = _of_type(*types)
    return Conversion(type, lambda _plugin, number: decode(number), lambda _plugin, value: check(value))


_text = _of_type(str)

_PLAIN: dict[type, Conversion] = {
    str: _block(lambda data: data.decode("utf-8"), lambda value: _text(value).encode()),
    bytes: _block(bytes, lambda value: value),
    int: _number(ValType.I64, int, int),
    Handle: _number(ValType.I64, int, int),
    float: _number(ValType.F64, float, float, int),
    bool: _number(ValType.I32, bool, bool, int),
}
