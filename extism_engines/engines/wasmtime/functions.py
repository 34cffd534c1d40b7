"""Functions: calling the guest's, and being called."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import wasmtime

from ... import errors
from ...wasm.types import FuncType, ValueType
from .. import api
from ..numbers import wrap
from .library import CALLBACK, SLOT_SIZE
from .module import FuncTypes
from .state import StoreState

_FORMATS = {ValueType.I32: "i12x", ValueType.I64: "q8x", ValueType.F32: "f12x", ValueType.F64: "d8x"}


class WasmtimeFunc(api.Func):
    """A function, with its argument slots laid out once."""

    def __init__(self, store: StoreState, type: FuncType, native: wasmtime.Func) -> None:
        self.type = type
        self.native = native
        self.store = store
        self.handle = store.library.handle(native._func)
        ffi = store.library.ffi
        self._count = max(len(type.params), len(type.results), 1)
        self._slots = ffi.new("char[]", self._count * SLOT_SIZE)
        self._buffer = ffi.buffer(self._slots)
        self._params = struct.Struct("<" + "".join(_FORMATS.get(kind, "16x") for kind in type.params))
        self._results = struct.Struct("<" + "".join(_FORMATS.get(kind, "16x") for kind in type.results))
        self._callable = all(kind.is_number for kind in type.params + type.results)

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        store = self.store
        store.check_open()
        if len(args) != len(self.type.params):
            raise TypeError(f"expected {len(self.type.params)} arguments, got {len(args)}")
        if not self._callable:
            raise errors.UnsupportedFeatureError(f"functions of type {self.type} cannot be called from the host")
        store.begin()
        try:
            self._params.pack_into(self._buffer, 0, *args)
        except (struct.error, OverflowError):
            self._params.pack_into(self._buffer, 0, *map(wrap, self.type.params, args))
        error = store.library.c.wasmtime_func_call_unchecked(
            store.context, self.handle, self._slots, self._count, store.trap
        )
        if error or store.trap[0]:
            store.fail(error)
        return self._results.unpack_from(self._buffer)


def make_host_function(
    store: StoreState, func_types: FuncTypes, type: FuncType, function: api.HostFunction
) -> WasmtimeFunc:
    """A function of the store that calls a Python function."""

    def interrupted(_kind: object, error: BaseException, _traceback: object) -> int:
        # An exception that no `try` of the trampoline could see: a signal's, raised at its entry.
        return store.unwind(error)

    callback = store.library.ffi.callback(CALLBACK, _trampoline(store, type, function), onerror=interrupted)
    store.callbacks.append(callback)
    handle = wasmtime._bindings.wasmtime_func_t()
    type_address = ctypes.cast(func_types.native(type).ptr(), ctypes.c_void_p).value
    assert type_address is not None
    null = store.library.ffi.NULL
    store.library.c.wasmtime_func_new_unchecked(
        store.context,
        store.library.pointer(type_address),
        callback,
        null,
        null,
        store.library.pointer(ctypes.addressof(handle)),
    )
    return WasmtimeFunc(store, type, wasmtime.Func._from_raw(handle))


def _trampoline(store: StoreState, type: FuncType, function: api.HostFunction) -> Callable[[Any, Any, Any, int], int]:
    """What the library calls for a host function: numbers out of the slots, call, results into the slots."""
    params, results = type.params, type.results
    if all(kind is ValueType.I64 for kind in params + results) and len(params) <= 3 and len(results) <= 1:
        return _handle_trampoline(store, len(params), bool(results), function)
    read = struct.Struct("<" + "".join(_FORMATS[kind] for kind in params))
    write = struct.Struct("<" + "".join(_FORMATS[kind] for kind in results))
    buffer = store.library.ffi.buffer

    def trampoline(_data: Any, _caller: Any, slots: Any, count: int) -> int:
        try:
            given = function(*read.unpack(buffer(slots, read.size)))
            if results:
                values = given if len(results) > 1 else (given,)
                if not isinstance(values, tuple) or len(values) != len(results):
                    raise TypeError(f"expected {len(results)} results, got {given!r:.100}")
                write.pack_into(buffer(slots, write.size), 0, *map(wrap, results, values))
            return 0
        except BaseException as error:
            return store.unwind(error)

    return trampoline


def _handle_trampoline(
    store: StoreState, params: int, has_result: bool, function: api.HostFunction
) -> Callable[[Any, Any, Any, int], int]:
    """The shape that the Extism protocol uses most: up to three handles in, at most one out."""

    def trampoline(_data: Any, _caller: Any, slots: Any, _count: int) -> int:
        try:
            if params == 1:
                given = function(slots[0])
            elif params == 2:
                given = function(slots[0], slots[2])
            elif params == 0:
                given = function()
            else:
                given = function(slots[0], slots[2], slots[4])
            if has_result:
                try:
                    slots[0] = given
                except OverflowError:
                    slots[0] = wrap(ValueType.I64, given)
            return 0
        except BaseException as error:
            return store.unwind(error)

    return trampoline
