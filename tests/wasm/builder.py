"""Hand-made binaries."""

from __future__ import annotations

import wasmtime

from extism_engines.wasm.binary import encode_name, encode_section, encode_unsigned
from extism_engines.wasm.sections import MODULE_HEADER

HEADER = MODULE_HEADER


def module(*sections: bytes) -> bytes:
    """A module of encoded sections."""
    return HEADER + b"".join(sections)


def section(number: int, *items: bytes) -> bytes:
    """A section that is a vector."""
    return encode_section(number, encode_unsigned(len(items)) + b"".join(items))


def custom(name: str, content: bytes = b"") -> bytes:
    """A custom section."""
    return encode_section(0, encode_name(name) + content)


def body(code: bytes, locals: bytes = b"\0") -> bytes:
    """A function body: instructions without the last ``end``."""
    content = locals + code + b"\x0b"
    return encode_unsigned(len(content)) + content


def function(code: bytes, params: bytes = b"", results: bytes = b"") -> bytes:
    """A module of one function, exported as ``f``."""
    return module(
        section(1, b"\x60" + bytes([len(params)]) + params + bytes([len(results)]) + results),
        section(3, b"\0"),
        section(7, encode_name("f") + b"\0\0"),
        section(10, body(code)),
    )


def wat(text: str) -> bytes:
    """The binary of a text."""
    return bytes(wasmtime.wat2wasm(text))
