"""Compiling with PyPI Wasmer."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import wasmer
from wasmer import engine as wasmer_engine

from ...errors import EngineFailureError, InvalidModuleError, MalformedModuleError
from .. import api
from ..signals import handlers
from .module import Group, WasmerModule
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


class WasmerEngine(api.Engine):
    """Wasmer 1.1.0 with one of its compilers."""

    def __init__(self, variant: str | None, compiler: Any, version: str) -> None:
        self._variant = variant
        self._compiler = compiler
        self._version = version
        self._install_signal_handlers()

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
        group = self.new_group()
        try:
            native = wasmer.Module(group.store, wasm)
            module = WasmerModule(wasm, bytes(native.serialize()), self.new_group)
        except BaseException as error:
            raise self._failure(error) from error
        module.use(group)
        group.add(module, native)
        return module

    def deserialize(self, artifact: bytes, wasm: bytes) -> WasmerModule:
        checksum, code = artifact[:_CHECKSUM_SIZE], artifact[_CHECKSUM_SIZE:]
        # The package checks next to nothing: damaged code is a segmentation fault.
        if hashlib.sha256(code).digest() != checksum:
            raise InvalidModuleError("the compiled module is damaged: its checksum does not fit", engine=self.name)
        module = WasmerModule(wasm, code, self.new_group)
        try:
            module.group().load(module)
        except BaseException as error:
            raise self._failure(error) from error
        return module

    def new_group(self) -> Group:
        """An empty group, in a native engine of its own."""
        return Group(self._new_native_store())

    def parse_text(self, text: str) -> bytes:
        try:
            return bytes(wasmer.wat2wasm(text))
        except RuntimeError as error:
            raise MalformedModuleError(str(error), engine=self.name) from error

    def new_store(self, main: api.Module | None = None) -> WasmerStore:
        handlers.restore()
        assert main is None or isinstance(main, WasmerModule)
        return WasmerStore(self.new_group() if main is None else main.group())

    def _install_signal_handlers(self) -> None:
        """The engine installs its handlers with its first instance; only then are they there to be remembered."""
        store = self._new_native_store()
        wasmer.Instance(wasmer.Module(store, b"\0asm\1\0\0\0"), wasmer.ImportObject())
        handlers.remember()

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
