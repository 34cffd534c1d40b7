"""Running with Wasmtime: stores, instances, and one call in one crossing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import wasmtime

from ... import errors
from ...wasm.types import FuncType, GlobalType, MemoryType, TableType
from .. import api
from . import traps
from .externs import WasmtimeGlobal, WasmtimeMemory, WasmtimeTable
from .functions import WasmtimeFunc, make_host_function
from .library import Library
from .module import FuncTypes, WasmtimeModule
from .state import StoreState


class WasmtimeStore(StoreState, api.Store):
    """One store; everything in it refuses once it is closed."""

    def __init__(self, engine: wasmtime.Engine, library: Library, func_types: FuncTypes) -> None:
        super().__init__(engine, library)
        self._func_types = func_types

    def host_function(self, type: FuncType, function: api.HostFunction) -> api.Func:
        self.check_open()
        return make_host_function(self, self._func_types, type, function)

    def instantiate(self, module: api.Module, imports: Sequence[api.Extern]) -> api.Instance:
        self.check_open()
        assert isinstance(module, WasmtimeModule)
        self.begin()
        externs = [_native(extern) for extern in imports]
        try:
            instance = wasmtime.Instance(self._native, module.native, externs)
        except wasmtime.Trap as trap:
            if self.raised is not None:
                self.raise_host_exception()
            raise api.segment_fault(traps.from_trap(trap)) from trap
        except wasmtime.WasmtimeError as error:
            if self.raised is not None:
                self.raise_host_exception()
            text = str(error)
            kind = errors.LinkError if "incompatible" in text else errors.InstantiationError
            raise kind(text) from error
        return WasmtimeInstance(self, module, instance)

    def exchange(
        self, entry: api.Func, memory: api.Memory, layout: api.ExchangeLayout, make_room: Callable[[int], None]
    ) -> api.Exchange:
        assert isinstance(entry, WasmtimeFunc)
        assert isinstance(memory, WasmtimeMemory)
        return _prepare_exchange(self, entry, memory, layout, make_room)

    def close(self) -> None:
        self.close_native()


class WasmtimeInstance(api.Instance):
    """An instance. Exports are looked up once."""

    def __init__(self, store: WasmtimeStore, module: api.Module, native: wasmtime.Instance) -> None:
        self._store = store
        self._module = module
        self._native = native
        self._exports: dict[str, api.Extern] | None = None

    @property
    def exports(self) -> Mapping[str, api.Extern]:
        if self._exports is None:
            natives = self._native.exports(self._store.native)
            wrapped = {
                export.name: _wrap_export(self._store, export.type, natives[export.name])
                for export in self._module.exports
            }
            # Kept once it is whole: a signal handler may raise at any moment.
            self._exports = {name: extern for name, extern in wrapped.items() if extern is not None}
        return self._exports


def _wrap_export(store: WasmtimeStore, type: Any, native: Any) -> api.Extern | None:
    if isinstance(type, FuncType):
        return WasmtimeFunc(store, type, native)
    if isinstance(type, MemoryType) and not type.shared:
        return WasmtimeMemory(store, type, native)
    if isinstance(type, GlobalType):
        return WasmtimeGlobal(store, type, native)
    if isinstance(type, TableType):
        return WasmtimeTable(store, type, native)
    return None


def _native(extern: api.Extern) -> Any:
    assert isinstance(extern, (WasmtimeFunc, WasmtimeMemory, WasmtimeGlobal, WasmtimeTable))
    return extern.native


def _prepare_exchange(
    store: WasmtimeStore,
    entry: WasmtimeFunc,
    memory: WasmtimeMemory,
    layout: api.ExchangeLayout,
    make_room: Callable[[int], None],
) -> api.Exchange:
    """The exchange with everything looked up beforehand: one crossing, and plain reads and writes of memory."""
    call = store.library.c.wasmtime_func_call_unchecked
    ffi = store.library.ffi
    context, handle, trap = store.context, entry.handle, store.trap
    slots = ffi.new("int64_t[2]")
    # A view of the slot is quicker to write through than the slot itself.
    argument = memoryview(ffi.buffer(slots)).cast("B").cast("q")
    no_trap = memoryview(ffi.buffer(trap)).cast("B").cast("Q")
    view = memory.view(0, 0)
    start, state = layout.input, layout.state
    read_state = api.EXCHANGE_STATE.unpack_from
    known = memory.size  # memories only grow

    def exchange(data: bytes) -> bytes | None:
        nonlocal known
        length = len(data)
        end = start + length
        if end > known:
            known = memory.size
            if end > known:
                make_room(end)
        try:
            view[start:end] = data
        except ValueError:
            store.check_open()  # closing releases the view
            raise
        argument[0] = length
        no_trap[0] = 0  # as StoreState.begin()
        store.raised = None
        error = call(context, handle, slots, 1, trap)
        if error or trap[0]:
            store.fail(error)
        status, offset, length, error_handle = read_state(view, state)
        if status or error_handle:
            return None
        end = offset + length
        if end > known:
            known = memory.size
            if end > known:
                raise errors.EngineFailureError("the output lies outside the kernel's memory")
        return view[offset:end].tobytes()

    return exchange
