"""Compiling with PyPI Wasmer."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Any

import attrs
import wasmer
from wasmer import engine as wasmer_engine

from ...errors import EngineFailureError, InvalidModuleError, MalformedModuleError
from ...wasm.types import FuncType, ValueType
from .. import api
from .store import WasmerStore

_CHECKSUM_SIZE = hashlib.sha256().digest_size

_PROPOSALS = frozenset(
    {
        "bulk-memory",
        "mutable-globals",
        "reference-types",
        "saturating-float-to-int",
        "sign-extension",
    }
)

_REFUSED = {"simd": "PyPI Wasmer 1.1.0 computes wrong results for it (select on v128, some conversions)"}

_compiled_in_process: set[int] = set()


@attrs.frozen(eq=False)
class _Native:
    """A module as one thread has it. Code is freed with the engine only, so every module has an engine of its own."""

    store: Any
    module: Any


class WasmerModule(api.Module):
    """A compiled module. The package's objects belong to one thread: other threads load the serialised code."""

    def __init__(self, engine: WasmerEngine, wasm: bytes, native: _Native, artifact: bytes) -> None:
        super().__init__(wasm)
        self._engine = engine
        self._artifact = artifact
        self._of_thread = threading.local()
        self._of_thread.native = native

    def native(self) -> _Native:
        """The module for the running thread."""
        found: _Native | None = getattr(self._of_thread, "native", None)
        if found is None:
            found = self._engine.load(self._artifact)
            self._of_thread.native = found
        return found

    def serialize(self) -> bytes:
        return hashlib.sha256(self._artifact).digest() + self._artifact


class WasmerEngine(api.Engine):
    """Wasmer 1.1.0 with one of its compilers."""

    def __init__(self, variant: str | None, compiler: Any, version: str) -> None:
        self._variant = variant
        self._compiler = compiler
        self._version = version

    @property
    def name(self) -> str:
        return "wasmer-pypi" if self._variant is None else f"wasmer-pypi:{self._variant}"

    @property
    def version(self) -> str:
        return self._version

    @property
    def capabilities(self) -> api.Capabilities:
        proposals = _PROPOSALS if self._variant == "singlepass" else _PROPOSALS | {"multi-value"}
        return api.Capabilities(
            proposals=proposals, refused=_REFUSED, thread_bound=True, guards_stack=False, serializes=True
        )

    def validate(self, wasm: bytes) -> None:
        try:
            valid = wasmer.Module.validate(self._new_native_store(), wasm)
        except BaseException as error:
            raise self._failure(error) from error
        if not valid:
            self.compile(wasm)  # says why
            raise InvalidModuleError("the module is not valid", engine=self.name)

    def compile(self, wasm: bytes) -> WasmerModule:
        self._refuse_after_fork()
        store = self._new_native_store()
        try:
            module = wasmer.Module(store, wasm)
            artifact = bytes(module.serialize())
        except BaseException as error:
            raise self._failure(error) from error
        return WasmerModule(self, wasm, _Native(store, module), artifact)

    def deserialize(self, artifact: bytes, wasm: bytes) -> WasmerModule:
        checksum, code = artifact[:_CHECKSUM_SIZE], artifact[_CHECKSUM_SIZE:]
        # The package checks next to nothing: damaged code is a segmentation fault.
        if hashlib.sha256(code).digest() != checksum:
            raise InvalidModuleError("the compiled module is damaged: its checksum does not fit", engine=self.name)
        return WasmerModule(self, wasm, self.load(code), code)

    def load(self, code: bytes) -> _Native:
        """Loads serialised code for the running thread."""
        store = self._new_native_store()
        try:
            return _Native(store, wasmer.Module.deserialize(store, code))
        except BaseException as error:
            raise self._failure(error) from error

    def parse_text(self, text: str) -> bytes:
        try:
            return bytes(wasmer.wat2wasm(text))
        except RuntimeError as error:
            raise MalformedModuleError(str(error), engine=self.name) from error

    def new_store(self) -> WasmerStore:
        return WasmerStore(self._new_native_store())

    def _new_native_store(self) -> Any:
        return wasmer.Store(wasmer_engine.Universal(self._compiler))

    def _failure(self, error: BaseException) -> BaseException:
        """The error to raise for one of the package's."""
        if isinstance(error, RuntimeError):
            return InvalidModuleError(str(error), engine=self.name)
        if type(error).__name__ == "PanicException":
            return EngineFailureError(f"the engine failed: {error}", engine=self.name)
        return error

    def _refuse_after_fork(self) -> None:
        """The compiler's threads do not live in a child: a compilation there would wait for them for ever."""
        if any(pid != os.getpid() for pid in _compiled_in_process):
            raise EngineFailureError(
                "PyPI Wasmer cannot compile in a process forked after a compilation; compile before the fork, "
                "or start fresh processes (multiprocessing: 'spawn')",
                engine=self.name,
            )
        _compiled_in_process.add(os.getpid())


NATIVE_TYPES = {
    ValueType.I32: wasmer.Type.I32,
    ValueType.I64: wasmer.Type.I64,
    ValueType.F32: wasmer.Type.F32,
    ValueType.F64: wasmer.Type.F64,
}


def native_func_type(type: FuncType) -> Any:
    """The package's form of a function type."""
    return wasmer.FunctionType(
        [NATIVE_TYPES[param] for param in type.params], [NATIVE_TYPES[result] for result in type.results]
    )
