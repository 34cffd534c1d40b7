"""From what a caller hands over to the bytes of each module (sections 3.2 to 3.5 of the protocol's description)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Union

import attrs

from .errors import (
    HashMismatchError,
    MalformedModuleError,
    ManifestError,
    ModuleError,
    SourceError,
    UnsupportedFeatureError,
)
from .kernel import NAMESPACE
from .manifest import COMPILE_PREFIX, NO_MODULES, UNKNOWN_FORMAT, Manifest, WasmSource, parse
from .wasm import RESERVED_MODULE, is_wasm

MAIN = "main"

Source = Union[str, bytes, bytearray, memoryview, "os.PathLike[str]", Mapping[str, Any], Manifest]
"""What :func:`to_manifest` takes."""

ParseText = Callable[[str], bytes]
"""Turns the WebAssembly text format into a binary module."""


@attrs.frozen
class ModuleBytes:
    """A module under the name that other modules import it by."""

    name: str
    wasm: bytes = attrs.field(repr=lambda wasm: f"<{len(wasm)} bytes>")


def to_manifest(source: Source) -> Manifest:
    """A manifest from whatever a caller may hand over.

    Args:
        source: A mapping or a :class:`Manifest`; the content of a module (binary or text) or of a manifest (TOML or
            JSON) as bytes or text; or the path of a file with such content.

    Raises:
        TypeError: It is something else.
        ManifestError: It is text, but neither a module nor a manifest, or it is a faulty manifest.
        MalformedModuleError: It is neither of them, and not text.
        SourceError: The file cannot be read, or is empty.
        UnsupportedFeatureError: It is a URL.
    """
    if isinstance(source, Manifest):
        return source
    if isinstance(source, Mapping):
        return Manifest.from_mapping(source)
    if isinstance(source, str):
        return _from_file(source) if os.path.exists(source) else _from_text(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_content(bytes(source))
    if isinstance(source, os.PathLike):
        return _from_file(os.fsdecode(source))
    raise TypeError(f"a plugin is made from a path, bytes, a manifest or a CompiledPlugin, not from {source!r:.100}")


def read_manifest(path: str) -> Manifest:
    """The manifest in a file, for a caller who insists that it is one.

    Args:
        path: Of a file with TOML or JSON.

    Raises:
        ManifestError: It is not a manifest, or a faulty one.
        SourceError: The file cannot be read, or is empty.
        UnsupportedFeatureError: It is a URL.
    """
    if is_url(path) and not os.path.exists(path):
        raise _no_downloads(path)
    try:
        text = _read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{UNKNOWN_FORMAT} (it is not text in UTF-8)") from error
    return Manifest.from_text(text, path)


def is_url(text: str) -> bool:
    """Whether a text is, to its form, a URL with an authority (``https://…``)."""
    return re.fullmatch(r"\s*[A-Za-z][A-Za-z0-9+.-]*://\S+\s*", text) is not None


def load_modules(manifest: Manifest, parse_text: ParseText, module_bytes: int | None = None) -> list[ModuleBytes]:
    """The binary modules of a manifest under their names, in the manifest's order.

    Args:
        manifest: What to load.
        parse_text: Turns a module written as text into a binary one.
        module_bytes: How large one module may be.

    Raises:
        SourceError: A module cannot be had, is too large or is not the one that its hash names.
        ManifestError: There is no module, or two have one name.
        ModuleError: A module's text does not parse.
    """
    names = _names(manifest)
    return [
        ModuleBytes(name, _load(source, f"wasm[{index}]", parse_text, module_bytes))
        for index, (name, source) in enumerate(zip(names, manifest.wasm, strict=True))
    ]


# -- telling contents apart ----------------------------------------------------------------------------------


def _from_file(path: str) -> Manifest:
    return _from_content(_read(path), path)


def _from_content(content: bytes, name: str = "") -> Manifest:
    if is_wasm(content) or _is_text_format(content):
        return Manifest((WasmSource(data=content),))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedModuleError(
            f"{COMPILE_PREFIX}the bytes are neither a WebAssembly module (binary or text) nor a manifest"
        ) from error
    return Manifest.from_text(text, name)


def _from_text(text: str) -> Manifest:
    """Content given as text. A line that is none is taken for the path of a file, which then cannot be read."""
    content = text.encode("utf-8", "surrogatepass")
    if is_wasm(content) or _is_text_format(content):
        return _from_content(content)
    if is_url(text):
        raise _no_downloads(text.strip())
    try:
        fields = parse(text)
    except ManifestError:
        if not _looks_like_a_path(text):
            raise
    else:
        return Manifest.from_mapping(fields)
    return _from_file(text)


def _no_downloads(url: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{url}: this version does not download modules; fetch the file and pass its path or content"
    )


def _is_text_format(content: bytes) -> bool:
    start = content.lstrip()
    return start.startswith((b";;", b"(;")) or (start[:1] == b"(" and start[1:].lstrip().startswith(b"module"))


def _looks_like_a_path(text: str) -> bool:
    return "\n" not in text and len(text) < 4096 and not text.lstrip().startswith(("{", "[", "("))


# -- getting bytes -------------------------------------------------------------------------------------------


def _names(manifest: Manifest) -> list[str]:
    """The name of each module (section 3.3): an only module is ``main``, one without a name is, too, and the last is if
    no other was."""
    if not manifest.wasm:
        raise ManifestError(NO_MODULES)
    if len(manifest.wasm) == 1:
        return [MAIN]
    names: list[str] = []
    for source in manifest.wasm:
        name = MAIN if source.name is None else source.name
        if len(names) == len(manifest.wasm) - 1 and MAIN not in names:
            name = MAIN
        if name in names or name == NAMESPACE:
            raise ManifestError(f"{COMPILE_PREFIX}Duplicate module name found in Extism manifest: {name}")
        if name == RESERVED_MODULE:
            raise ManifestError(f"wasm[{len(names)}].name: {name!r} is reserved")
        names.append(name)
    return names


def _load(source: WasmSource, place: str, parse_text: ParseText, module_bytes: int | None) -> bytes:
    if source.path is not None:
        content = _read(source.path, module_bytes)
    elif source.data is not None:
        content = source.data
    else:
        raise UnsupportedFeatureError(
            f"{place}.url: this version does not download modules; fetch the bytes and pass them as data"
        )
    if module_bytes is not None and len(content) > module_bytes:
        raise SourceError(f"{place}: the module is larger than the {module_bytes} bytes that are allowed")
    if source.hash is not None:
        found = hashlib.sha256(content).hexdigest()
        if found != source.hash.lower():
            raise HashMismatchError(
                f"{COMPILE_PREFIX}Hash mismatch, found {found} but expected {source.hash} ({place}.hash)"
            )
    return _to_binary(content, place, parse_text)


def _read(path: str, limit: int | None = None) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read() if limit is None else file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise SourceError(_cannot_load(path, _why(error))) from error
    if not content:
        raise SourceError(_cannot_load(path, "the file is empty"))
    return content


def _cannot_load(path: str, why: str) -> str:
    return f'{COMPILE_PREFIX}Unable to load Wasm file "{path}": {why}'


def _why(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    why = error.strerror or str(error)
    # The reference runtime's words, which programs may look for, then the system's, which people know.
    return f"entity not found ({why})" if isinstance(error, FileNotFoundError) else why


def _to_binary(content: bytes, place: str, parse_text: ParseText) -> bytes:
    if is_wasm(content):
        return content
    if not _is_text_format(content):
        raise MalformedModuleError(f"{COMPILE_PREFIX}{place}: the bytes are not a WebAssembly module, binary or text")
    try:
        return parse_text(content.decode("utf-8"))
    except (ModuleError, UnicodeDecodeError) as error:
        raise MalformedModuleError(f"{COMPILE_PREFIX}{place}: {error}") from error
