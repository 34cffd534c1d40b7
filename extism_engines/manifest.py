"""Manifests: what to load and what it may use (section 3 of the protocol's description).

Decoding is strict, and every fault names its place: ``wasm[1].hash: …``. Unknown fields are faults.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import attrs

from .errors import ManifestError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

COMPILE_PREFIX = "Unable to compile Extism plugin: "
"""How the reference runtime begins the text of everything that goes wrong before there is a plugin."""

UNKNOWN_FORMAT = COMPILE_PREFIX + "Unknown manifest format"
"""How the text begins where something is no manifest at all."""

NO_MODULES = COMPILE_PREFIX + "No wasm files specified in Extism manifest"


@attrs.frozen
class WasmSource:
    """One module of a manifest: exactly one of ``path``, ``data`` and ``url`` is set.

    Attributes:
        path: A file, relative to the working directory of the process.
        data: The module itself, binary or text.
        url: Where to download it.
        headers: Of the download.
        method: Of the download.
        name: What other modules import it by.
        hash: SHA-256 of the bytes, in hexadecimal.
    """

    path: str | None = None
    data: bytes | None = attrs.field(default=None, repr=lambda data: "None" if data is None else f"<{len(data)} bytes>")
    url: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    method: str | None = None
    name: str | None = None
    hash: str | None = None

    def __attrs_post_init__(self) -> None:
        given = [kind for kind in _SOURCES if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ManifestError(_one_source(given))


_SOURCES = ("path", "data", "url")


def _one_source(given: list[str]) -> str:
    return f"expected exactly one of {', '.join(_SOURCES)}, got {' and '.join(given) or 'none of them'}"


@attrs.frozen
class MemoryOptions:
    """The ``memory`` object of a manifest."""

    max_pages: int | None = None
    max_http_response_bytes: int | None = None
    max_var_bytes: int | None = None


@attrs.frozen
class Manifest:
    """A decoded manifest."""

    wasm: tuple[WasmSource, ...]
    memory: MemoryOptions = attrs.field(factory=MemoryOptions)
    config: Mapping[str, str] = attrs.field(factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    allowed_paths: Mapping[str, str] = attrs.field(factory=dict)
    timeout_ms: int | None = None

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> Manifest:
        """Decodes a manifest given as Python values; ``data`` of a module may be ``bytes`` or base64 text.

        Raises:
            ManifestError: A field is unknown, missing or of the wrong type; the text begins with its path.
        """
        manifest = _decode_manifest(fields)
        if not manifest.wasm:
            raise ManifestError(NO_MODULES)
        return manifest

    @classmethod
    def from_text(cls, text: str, name: str = "") -> Manifest:
        """Decodes a manifest written as TOML or JSON, tried in this order.

        Args:
            text: The manifest.
            name: Of the file that it was in, if any; its ending tells which of the two a faulty one was meant to be.

        Raises:
            ManifestError: It is neither, or :meth:`from_mapping` does.
        """
        return cls.from_mapping(parse(text, name))


def parse(text: str, name: str = "") -> dict[str, Any]:
    """The fields of a manifest written as TOML or JSON, tried in this order, before any of them is looked at.

    Args:
        text: The manifest.
        name: Of the file that it was in, as for :meth:`Manifest.from_text`.

    Raises:
        ManifestError: It is neither. Text and cause are what is wrong with it as the one that it was meant to be.
    """
    # Beside their own errors the parsers raise ValueError for too many digits and RecursionError for deep nesting.
    fields: Any
    try:
        return dict(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        toml_fault = error
    try:
        fields = json.loads(text, object_pairs_hook=_JsonObject)
    except (ValueError, RecursionError) as json_fault:
        kind, fault = ("JSON", json_fault) if _is_meant_as_json(text, name) else ("TOML", toml_fault)
        raise ManifestError(f"{UNKNOWN_FORMAT} (not valid {kind}: {fault})") from fault
    if not isinstance(fields, dict):
        raise ManifestError(f"{UNKNOWN_FORMAT} (an object is expected)")
    return fields


def _is_meant_as_json(text: str, name: str) -> bool:
    ending = os.path.splitext(name)[1].lower()
    if ending in (".json", ".toml"):
        return ending == ".json"
    # An array of objects or texts is no manifest, but JSON all the same; `[[wasm]]` is TOML.
    return re.match(r"\s*(\{|\[\s*[{\"])", text.lstrip("\ufeff")) is not None


class _JsonObject(dict[str, Any]):
    """An object that remembers a name that it had twice, so that decoding can say where."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.twice = next((name for name, times in counts.items() if times > 1), None)


# -- decoding: each function takes a value and the path it was found at --------------------------------------

Decoder = Callable[[Any, str], T]


def _fault(path: str, text: str) -> NoReturn:
    raise ManifestError(f"{path}: {text}")


def _expected(path: str, what: str, value: Any) -> NoReturn:
    _fault(path, f"expected {what}, got {_kind(value)}")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}"
    names = {bool: "a boolean", int: "an integer", float: "a fractional number", str: "a string", list: "an array"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)


def _string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        _expected(path, "a string", value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ManifestError(f"{path}: half of a surrogate pair is not a character") from error
    return value


def _unsigned(bits: int) -> Decoder[int]:
    def decode(value: Any, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            _expected(path, "a whole number", value)
        if not 0 <= value < 1 << bits:
            _fault(path, f"the number is not in the range 0 to {(1 << bits) - 1}")
        return value

    return decode


def _or_null(decode: Decoder[T]) -> Decoder[T | None]:
    return lambda value, path: None if value is None else decode(value, path)


def _array(decode: Decoder[T]) -> Decoder[tuple[T, ...]]:
    def decode_all(value: Any, path: str) -> tuple[T, ...]:
        if not isinstance(value, (list, tuple)):
            _expected(path, "an array", value)
        return tuple(decode(item, f"{path}[{index}]") for index, item in enumerate(value))

    return decode_all


def _strings_by_name(value: Any, path: str) -> dict[str, str]:
    fields = _fields(value, path)
    return {name: _string(item, _join(path, name)) for name, item in fields.items()}


def _bytes(value: Any, path: str) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    text = _string(value, path)
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ManifestError(f"{path}: {_NOT_BASE64} ({error})") from error
    # What Python lets pass differs between its versions: superfluous padding, bits after the last byte.
    if base64.b64encode(decoded) != text.encode("ascii"):
        _fault(path, f"{_NOT_BASE64} (wrong padding)")
    return decoded


_NOT_BASE64 = "not base64 in the standard alphabet with padding"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fields(value: Any, path: str) -> Mapping[str, Any]:
    """An object whose names are text, each there once."""
    if not isinstance(value, Mapping):
        _expected(path or "manifest", "an object", value)
    for name in value:
        _string(name, f"{path or 'manifest'}: name of a field")
    if isinstance(value, _JsonObject) and value.twice is not None:
        _fault(_join(path, value.twice), "the field is there twice")
    return value


def _object(value: Any, path: str, decoders: Mapping[str, Decoder[Any]]) -> dict[str, Any]:
    fields = _fields(value, path)
    for name in fields:
        if name not in decoders:
            _fault(_join(path, name), f"unknown field; known are {', '.join(decoders)}")
    return {name: decoders[name](item, _join(path, name)) for name, item in fields.items()}


_SOURCE_FIELDS: dict[str, Decoder[Any]] = {
    "path": _string,
    "data": _bytes,
    "url": _string,
    "headers": _strings_by_name,
    "method": _or_null(_string),
    "name": _or_null(_string),
    "hash": _or_null(_string),
}


def _decode_source(value: Any, path: str) -> WasmSource:
    fields = _object(value, path, _SOURCE_FIELDS)
    given = [kind for kind in _SOURCES if kind in fields]
    if len(given) != 1:
        _fault(path, _one_source(given))
    for name in ("headers", "method"):
        if name in fields and given != ["url"]:
            _fault(f"{path}.{name}", "only a module with a url has this field")
    return WasmSource(**fields)


_MEMORY_FIELDS: dict[str, Decoder[Any]] = {
    "max_pages": _or_null(_unsigned(32)),
    "max_http_response_bytes": _or_null(_unsigned(64)),
    "max_var_bytes": _or_null(_unsigned(64)),
}

_MANIFEST_FIELDS: dict[str, Decoder[Any]] = {
    "wasm": _array(_decode_source),
    "memory": lambda value, path: MemoryOptions(**_object(value, path, _MEMORY_FIELDS)),
    "config": _strings_by_name,
    "allowed_hosts": lambda value, path: _or_null(_array(_string))(value, path) or (),
    "allowed_paths": lambda value, path: _or_null(_strings_by_name)(value, path) or {},
    "timeout_ms": _or_null(_unsigned(64)),
}


def _decode_manifest(fields: Any) -> Manifest:
    return Manifest(**{"wasm": (), **_object(fields, "", _MANIFEST_FIELDS)})
