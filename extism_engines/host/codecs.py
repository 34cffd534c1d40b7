"""From the annotations of a host function to conversions of its values (section 10.3 of the description)."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import attrs

from ..errors import UnsupportedFeatureError
from .current import CurrentPlugin
from .handles import read_handle
from .memory import MemoryView, as_bytes
from .values import ValType, check_number


class Json:
    """Marker: ``Annotated[T, Json]`` passes a value as JSON."""


class Pickle:
    """Marker: ``Annotated[T, Pickle]`` passes a value pickled.

    Loading what a guest pickled runs whatever the guest wants, outside of its sandbox. It is refused; only results may
    be passed this way.
    """


class Codec:
    """Marker: ``Annotated[T, Codec(function)]`` passes a value through a function: of bytes for a parameter, to bytes
    for a result."""

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
        """What the engine wants for the guest: nothing, one number, or a tuple of several."""
        if not self.results:
            return None
        if not self.returns_tuple:
            given = (given,)
        if not isinstance(given, (tuple, list)) or len(given) != len(self.results):
            raise TypeError(f"a tuple of {len(self.results)} values expected, got {given!r:.100}")
        numbers = tuple(result.encode(plugin, value) for result, value in zip(self.results, given, strict=True))
        return numbers if len(numbers) > 1 else numbers[0]


def infer(function: Callable[..., Any], further: int = 0) -> Signature:
    """Reads a function's annotations.

    Args:
        function: Its annotated parameters come first.
        further: How many arguments it gets behind those.

    Raises:
        TypeError: There is none at all, one is not of a kind that can pass, or the function does not take what it would
            get.
    """
    hints = get_type_hints(function, include_extras=True)
    if not hints:
        raise TypeError(
            f"{_name(function)} has no annotations to infer its signature from; annotate it or give signature=…"
        )
    result = hints.pop("return", type(None))
    try:
        params = _annotated_parameters(inspect.signature(function), hints, further)
        takes_plugin = bool(params) and params[0] is CurrentPlugin
        conversions = tuple(_conversion(annotation, "parameter") for annotation in params[takes_plugin:])
        returns_tuple = get_origin(result) is tuple
        kinds = get_args(result) if returns_tuple else () if result is type(None) else (result,)
        results = tuple(_conversion(annotation, "result") for annotation in kinds)
    except TypeError as error:
        raise TypeError(f"{_name(function)}: {error}") from None
    return Signature(conversions, results, takes_plugin, returns_tuple)


def _annotated_parameters(signature: inspect.Signature, hints: Mapping[str, Any], further: int) -> list[Any]:
    """The annotations of those parameters that come from the guest, in order."""
    params: list[Any] = []
    unannotated = None
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            break  # takes the user data
        if name not in hints:
            unannotated = unannotated or name
        elif unannotated is None:
            params.append(hints[name])
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            raise TypeError(f"{unannotated} has no annotation, and {name} behind it has one")
    signature.bind(*params, *range(further))
    return params


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
                    "Pickle as the type of a parameter would run code of the guest's choice in the host; "
                    "use Json or Codec"
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
        if not isinstance(data, (bytes, bytearray, memoryview, MemoryView)):
            raise TypeError(f"bytes expected, got {type(data).__name__}")
        return plugin._kernel.store_block(as_bytes(data))

    return Conversion(
        ValType.I64,
        lambda plugin, handle: decode(read_handle(plugin._kernel, handle, "argument")),
        to_handle,
    )


def _number(type: ValType, decode: Callable[[Any], Any]) -> Conversion:
    """Values that pass as they are."""
    return Conversion(type, lambda _plugin, number: decode(number), lambda _plugin, value: check_number(type, value))


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"str expected, got {type(value).__name__}")
    return value.encode()


_PLAIN: dict[type, Conversion] = {
    str: _block(lambda data: data.decode("utf-8"), _text),
    bytes: _block(bytes, lambda value: value),
    int: _number(ValType.I64, int),
    Handle: _number(ValType.I64, int),
    float: _number(ValType.F64, float),
    bool: _number(ValType.I32, bool),
}
