"""Compiling with Wasmtime."""

from __future__ import annotations

import hashlib
import os

import wasmtime

from ...errors import (
    EngineFailureError,
    EngineUnavailableError,
    InstantiationError,
    InvalidModuleError,
    MalformedModuleError,
)
from ...wasm.types import FuncType, ValueType
from .. import api
from ..signals import handlers
from ..threads import running_threads_stack
from .library import Library
from .module import FuncTypes, WasmtimeModule
from .store import WasmtimeStore

# Everything that is on by default in the versions tested. Off: shared memories, legacy exceptions, custom page sizes.
_PROPOSALS = frozenset(
    {
        "bulk-memory",
        "exceptions",
        "extended-const",
        "function-references",
        "gc",
        "memory64",
        "multi-memory",
        "multi-value",
        "mutable-globals",
        "reference-types",
        "relaxed-simd",
        "saturating-float-to-int",
        "sign-extension",
        "simd",
        "tail-call",
        "threads",
        "wide-arithmetic",
    }
)

_NATIVE_ONLY = frozenset({"threads"})
"""What the interpreter does not run."""

_LEAST_STACK = 1 << 20
"""Bytes of stack that a thread must have: Wasmtime lets wasm take 512 KiB, and Python needs its own."""

_CHECKSUM_SIZE = hashlib.sha256().digest_size

# (module (import "" "host" (func $host (param i64) (result i64)))
#         (func (export "twice") (param i64) (result i64) local.get 0 call $host i64.const 2 i64.mul))
_SELF_TEST = bytes.fromhex(
    "0061736d01000000010601600 17e017e020901 0004686f73740000030201000709010574776963650001"
    "0a0b0109002000100042027e0b".replace(" ", "")
)


class WasmtimeEngine(api.Engine):
    """Wasmtime, as native code or as its interpreter."""

    def __init__(self, library: Library, variant: str | None, version: str, *, sequential: bool) -> None:
        self._variant = variant
        self._version = version
        self._pid = os.getpid()
        self._library = library
        config = wasmtime.Config()
        # The exchange keeps the base address of the kernel's memory for the life of a store.
        config.memory_may_move = False
        config.parallel_compilation = not sequential
        if variant == "pulley":
            config.target = "pulley64"
        self._engine = wasmtime.Engine(config)
        self._func_types = FuncTypes()

    @property
    def name(self) -> str:
        return "wasmtime" if self._variant is None else f"wasmtime:{self._variant}"

    @property
    def version(self) -> str:
        return self._version

    @property
    def capabilities(self) -> api.Capabilities:
        proposals = _PROPOSALS if self._variant is None else _PROPOSALS - _NATIVE_ONLY
        return api.Capabilities(proposals=proposals, releases_gil=True, serializes=True)

    def validate(self, wasm: bytes) -> None:
        try:
            wasmtime.Module.validate(self._engine, wasm)
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(str(error), engine=self.name) from error

    def compile(self, wasm: bytes) -> WasmtimeModule:
        if self._pid != os.getpid():
            raise EngineFailureError(
                "this engine was made before a fork, and its compiler's threads do not live in the child; "
                "name the engine, and a fresh one is made",
                engine=self.name,
            )
        try:
            return WasmtimeModule(wasm, wasmtime.Module(self._engine, wasm))
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(str(error), engine=self.name) from error

    def deserialize(self, artifact: bytes, wasm: bytes) -> WasmtimeModule:
        checksum, code = artifact[:_CHECKSUM_SIZE], artifact[_CHECKSUM_SIZE:]
        if hashlib.sha256(code).digest() != checksum:
            raise InvalidModuleError("the compiled module is damaged: its checksum does not fit", engine=self.name)
        try:
            return WasmtimeModule(wasm, wasmtime.Module.deserialize(self._engine, code))
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(str(error), engine=self.name) from error

    def parse_text(self, text: str) -> bytes:
        try:
            return bytes(wasmtime.wat2wasm(text))
        except wasmtime.WasmtimeError as error:
            raise MalformedModuleError(str(error), engine=self.name) from error

    def new_store(self, main: api.Module | None = None) -> WasmtimeStore:
        handlers.restore()
        self._check_stack()
        return WasmtimeStore(self._engine, self._library, self._func_types)

    def _check_stack(self) -> None:
        """Native code may use a fixed part of the thread's stack, whether the thread has it or not."""
        stack = running_threads_stack()
        if self._variant is None and stack is not None and stack.size < _LEAST_STACK:
            raise InstantiationError(
                f"the thread has a stack of {stack.size >> 10} KiB, and wasmtime needs {_LEAST_STACK >> 10}; "
                "give it a larger one (threading.stack_size), or use the engine wasmtime:pulley",
                engine=self.name,
            )

    def self_test(self) -> None:
        """Runs one call through everything low-level. A library that behaves otherwise than the tested versions is
        reported as unavailable rather than trusted.

        Raises:
            EngineUnavailableError: It does.
        """
        store = self.new_store()
        try:
            number = FuncType((ValueType.I64,), (ValueType.I64,))
            host = store.host_function(number, lambda value: value + 1)
            twice = store.instantiate(self.compile(_SELF_TEST), [host]).exports["twice"]
            assert isinstance(twice, api.Func)
            if twice(-4) != (-6,):
                raise EngineUnavailableError(reason="this version of wasmtime fails the self-test of calls")
        finally:
            store.close()
        handlers.remember()
