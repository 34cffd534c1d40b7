"""Compiled modules, the native engines that they live in, and function types as the package has them."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import wasmer

from ...wasm.types import FuncType, ValueType
from .. import api

_VALUE_TYPES = {
    ValueType.I32: wasmer.Type.I32,
    ValueType.I64: wasmer.Type.I64,
    ValueType.F32: wasmer.Type.F32,
    ValueType.F64: wasmer.Type.F64,
}


class Group:
    """Modules in one native engine, on one thread.

    Function types are compared by numbers that each native engine hands out for itself: in two engines one number
    means two types, so that an indirect call of a function from the other would pass the check with the wrong type.
    So whatever meets in a store lives in one native engine. And code is freed with its native engine only: so there
    is one for each main module.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self._loaded: weakref.WeakKeyDictionary[WasmerModule, Any] = weakref.WeakKeyDictionary()

    def add(self, module: WasmerModule, native: Any) -> None:
        """Says that a module was compiled in this group."""
        self._loaded[module] = native

    def load(self, module: WasmerModule) -> Any:
        """The native form of a module in this group."""
        native = self._loaded.get(module)
        if native is None:
            native = wasmer.Module.deserialize(self.store, module.artifact)
            self._loaded[module] = native
        return native


class WasmerModule(api.Module):
    """A compiled module. The package's objects belong to one thread and to one native engine: elsewhere the
    serialised code is loaded again."""

    def __init__(self, wasm: bytes, artifact: bytes, new_group: Callable[[], Group]) -> None:
        super().__init__(wasm)
        self.artifact = artifact
        self._new_group = new_group
        self._of_thread = threading.local()

    def group(self) -> Group:
        """The group of this module, for the running thread."""
        found: Group | None = getattr(self._of_thread, "group", None)
        if found is None:
            found = self._new_group()
            self._of_thread.group = found
        return found

    def use(self, group: Group) -> None:
        """Says which group the running thread takes for this module."""
        self._of_thread.group = group

    def serialize(self) -> bytes:
        return hashlib.sha256(self.artifact).digest() + self.artifact


def native_func_type(type: FuncType) -> Any:
    """The package's form of a function type."""
    return wasmer.FunctionType(
        [_VALUE_TYPES[param] for param in type.params], [_VALUE_TYPES[result] for result in type.results]
    )
