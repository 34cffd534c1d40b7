"""Whatever the bytes, there is a result or an error of this package."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from extism_engines.errors import (
    InstantiationError,
    LinkError,
    MalformedModuleError,
    OutOfMemoryError,
    UnsupportedFeatureError,
)
from extism_engines.wasm import Needs, needed_proposals, prepare, read_function_names, read_module

from . import samples
from .builder import wat

MUTATIONS = 1500
NEEDS = Needs(stack_budget=True, memory_pages=4, table_elements=8)


def survive(wasm: bytes) -> None:
    """Runs everything that takes the bytes of strangers."""
    try:
        read_module(wasm)
    except MalformedModuleError as error:
        assert str(error)
    read_function_names(wasm)
    try:
        needed_proposals(wasm)
    except (MalformedModuleError, UnsupportedFeatureError) as error:
        assert str(error)
    try:
        prepare(wasm, NEEDS)
    except (
        *(MalformedModuleError, UnsupportedFeatureError),
        *(LinkError, OutOfMemoryError, InstantiationError),
    ) as error:
        assert str(error)


@pytest.mark.parametrize("name", samples.ALL)
def test_truncated_at_every_byte(name: str) -> None:
    wasm = wat(samples.ALL[name])
    for length in range(len(wasm)):
        survive(wasm[:length])
        if length not in _section_ends(wasm):
            with pytest.raises(MalformedModuleError):
                read_module(wasm[:length])


def _section_ends(wasm: bytes) -> set[int]:
    return {8, *(section.end for section in read_module(wasm).sections)}


@pytest.mark.parametrize("name", samples.ALL)
def test_mutated_at_random(name: str) -> None:
    source = random.Random(name)
    wasm = wat(samples.ALL[name])
    for _ in range(MUTATIONS):
        survive(bytes(_mutate(bytearray(wasm), source)))


def _mutate(wasm: bytearray, source: random.Random) -> bytearray:
    for _ in range(source.randrange(1, 4)):
        at = source.randrange(8, len(wasm))
        kind = source.randrange(4)
        if kind == 0:
            wasm[at] = source.randrange(256)
        elif kind == 1:
            wasm[at] ^= 1 << source.randrange(8)
        elif kind == 2:
            wasm[at:at] = source.randbytes(source.randrange(1, 6))
        else:
            del wasm[at : at + source.randrange(1, 6)]
            if len(wasm) <= 8:
                return wasm
    return wasm


def _garbage() -> Iterator[bytes]:
    source = random.Random(1)
    for _ in range(500):
        yield b"\0asm\x01\0\0\0" + source.randbytes(source.randrange(60))


def test_garbage_after_the_header() -> None:
    for wasm in _garbage():
        survive(wasm)
