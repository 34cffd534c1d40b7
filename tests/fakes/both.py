"""One module on wasmtime and on the fake engine, to compare what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import wasmtime

from extism_engines.engines import api
from extism_engines.errors import TrapError, TrapKind

from .engine import create

PROGRAMS = Path(__file__).parent / "programs"


def program(name: str) -> str:
    """The text of a module that comes with the tests."""
    return (PROGRAMS / f"{name}.wat").read_text(encoding="utf-8")


def binary(text: str) -> bytes:
    """The binary of a module in text."""
    return bytes(wasmtime.wat2wasm(text))


_KINDS = {
    wasmtime.TrapCode.STACK_OVERFLOW: TrapKind.STACK_OVERFLOW,
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: TrapKind.MEMORY_OUT_OF_BOUNDS,
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: TrapKind.TABLE_OUT_OF_BOUNDS,
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: TrapKind.INDIRECT_CALL_TO_NULL,
    wasmtime.TrapCode.BAD_SIGNATURE: TrapKind.BAD_SIGNATURE,
    wasmtime.TrapCode.INTEGER_OVERFLOW: TrapKind.INTEGER_OVERFLOW,
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: TrapKind.INTEGER_DIVIDE_BY_ZERO,
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: TrapKind.BAD_CONVERSION_TO_INTEGER,
    wasmtime.TrapCode.UNREACHABLE: TrapKind.UNREACHABLE,
}

Outcome = Any
"""A tuple of results, or the kind of a trap."""

OUT_OF_FUEL = "out of fuel"


def same_features() -> wasmtime.Engine:
    """A wasmtime that accepts the proposals of the fake engine and no others."""
    config = wasmtime.Config()
    config.consume_fuel = True
    for name in ("relaxed_simd", "simd", "threads", "tail_call", "multi_memory", "memory64", "exceptions", "gc"):
        setattr(config, f"wasm_{name}", False)
    for name in ("function_references", "wide_arithmetic", "stack_switching", "custom_page_sizes"):
        setattr(config, f"wasm_{name}", False)
    return wasmtime.Engine(config)


class Reference:
    """An instance on wasmtime."""

    def __init__(self, wasm: bytes, engine: wasmtime.Engine | None = None) -> None:
        self.fuelled = engine is not None
        self.store = wasmtime.Store(engine)
        self.refuel()
        self.instance = wasmtime.Instance(self.store, wasmtime.Module(self.store.engine, wasm), [])

    def refuel(self) -> None:
        if self.fuelled:
            self.store.set_fuel(20_000)

    def function(self, name: str) -> Callable[..., Outcome]:
        function = self.instance.exports(self.store)[name]
        assert isinstance(function, wasmtime.Func)

        def call(*args: Any) -> Outcome:
            self.refuel()
            try:
                results = function(self.store, *args)
            except wasmtime.Trap as trap:
                if trap.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
                    return OUT_OF_FUEL
                assert trap.trap_code is not None
                return _KINDS[trap.trap_code]
            return () if results is None else tuple(results) if isinstance(results, list) else (results,)

        return call


class Fake:
    """An instance on the fake engine."""

    def __init__(self, wasm: bytes) -> None:
        engine = create(None)
        self.store = engine.new_store()
        self.module = engine.compile(wasm)
        self.instance = self.store.instantiate(self.module, [])

    def function(self, name: str) -> Callable[..., Outcome]:
        function = self.instance.exports[name]
        assert isinstance(function, api.Func)

        def call(*args: Any) -> Outcome:
            try:
                return function(*args)
            except TrapError as error:
                return error.kind

        return call


class Both:
    """The same module on both, kept in step."""

    def __init__(self, text: str) -> None:
        wasm = binary(text)
        self.reference = Reference(wasm)
        self.fake = Fake(wasm)

    def check(self, name: str, *args: Any) -> Outcome:
        """Calls it on both; the outcome, when it is the same."""
        expected = self.reference.function(name)(*args)
        actual = self.fake.function(name)(*args)
        assert repr(actual) == repr(expected), (name, args)  # the text tells -0.0 from 0.0, and NaNs are alike
        return actual

    def check_all(self, name: str, arguments: Iterable[tuple[Any, ...]]) -> list[Outcome]:
        return [self.check(name, *args) for args in arguments]
