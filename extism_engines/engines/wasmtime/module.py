"""Compiled modules, and function types as the package has them."""

from __future__ import annotations

import hashlib

import wasmtime

from ...wasm.types import FuncType, ValueType
from .. import api

_VALUE_TYPES = {
    ValueType.I32: wasmtime.ValType.i32,
    ValueType.I64: wasmtime.ValType.i64,
    ValueType.F32: wasmtime.ValType.f32,
    ValueType.F64: wasmtime.ValType.f64,
}


class WasmtimeModule(api.Module):
    """A module compiled by Wasmtime."""

    def __init__(self, wasm: bytes, native: wasmtime.Module) -> None:
        super().__init__(wasm)
        self.native = native

    def serialize(self) -> bytes:
        code = bytes(self.native.serialize())
        return hashlib.sha256(code).digest() + code


class FuncTypes:
    """The package's form of function types. Each is made once: a plugin's host functions have few of them."""

    def __init__(self) -> None:
        self._made: dict[FuncType, wasmtime.FuncType] = {}

    def native(self, type: FuncType) -> wasmtime.FuncType:
        """The package's form of a type of numbers."""
        found = self._made.get(type)
        if found is None:
            found = wasmtime.FuncType(
                [_VALUE_TYPES[param]() for param in type.params], [_VALUE_TYPES[result]() for result in type.results]
            )
            self._made[type] = found
        return found
