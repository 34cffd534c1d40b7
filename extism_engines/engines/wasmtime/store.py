"""Running with Wasmtime: stores, instances and what they export."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import wasmtime

from ... import errors
from ...wasm.types import FuncType, GlobalType, MemoryType, TableType, ValueType
from .. import api
from . import traps
from .library import CALLBACK, SLOT_SIZE, Library
from .module import FuncTypes, WasmtimeModule

_WHOLE_MEMORY = 1 << 32
"""Address space that the library reserves for every memory with 32-bit offsets: its base never moves."""

_FORMATS = {ValueType.I32: "i12x", ValueType.I64: "q8x", ValueType.F32: "f12x", ValueType.F64: "d8x"}


class WasmtimeStore(api.Store):
    """One store; everything in it refuses once it is closed."""

    def __init__(self, engine: wasmtime.Engine, library: Library, func_types: FuncTypes) -> None:
        self.library = library
        self._func_types = func_types
        self.closed = False
        self.raised: BaseException | None = None
        """What a host function raised, on its way out through the guest. A slot per store: the package's own slot is
        one for all threads, and mixes their exceptions up."""
        self._native = wasmtime.Store(engine)
        address = ctypes.cast(self._native._context(), ctypes.c_void_p).value
        assert address is not None
        self.context = library.pointer(address)
        self.trap = library.ffi.new("size_t *")
        self._callbacks: list[Any] = []
        self._views: list[memoryview] = []

    # -- contract --------------------------------------------------------------------------------------

    def host_function(self, type: FuncType, function: api.HostFunction) -> api.Func:
        self.check_open()
        callback = self.library.ffi.callback(CALLBACK, _trampoline(self, type, function), onerror=self._interrupted)
        self._callbacks.append(callback)
        handle = wasmtime._bindings.wasmtime_func_t()
        type_address = ctypes.cast(self._func_types.native(type).ptr(), ctypes.c_void_p).value
        assert type_address is not None
        null = self.library.ffi.NULL
        self.library.c.wasmtime_func_new_unchecked(
            self.context,
            self.library.pointer(type_address),
            callback,
            null,
            null,
            self.library.pointer(ctypes.addressof(handle)),
        )
        return WasmtimeFunc(self, type, wasmtime.Func._from_raw(handle))

    def instantiate(self, module: api.Module, imports: Sequence[api.Extern]) -> api.Instance:
        self.check_open()
        assert isinstance(module, WasmtimeModule)
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
        self.closed = True
        self.context = None
        # Whoever still holds one of these gets an error instead of somebody else's memory.
        for view in self._views:
            view.release()
        self._views.clear()
        self._native.close()
        self._callbacks.clear()

    # -- for what was made in this store -----------------------------------------------------------------

    @property
    def native(self) -> wasmtime.Store:
        """The package's store."""
        self.check_open()
        return self._native

    def check_open(self) -> None:
        """Raises ``PluginClosedError`` once the store is closed."""
        if self.closed:
            raise errors.PluginClosedError("the plugin is closed")

    def own_view(self, view: memoryview) -> memoryview:
        """Takes over a view of this store's memory, to be released when the store closes."""
        self._views.append(view)
        return view

    def unwind(self, error: BaseException) -> int:
        """Keeps an exception for the caller; gives the trap that ends the guest."""
        self.raised = error
        return self.library.c.wasmtime_trap_new(b"host", 4)  # type: ignore[no-any-return]

    def fail(self, error: int) -> None:
        """Raises what a call that did not end well leaves behind.

        Args:
            error: What the call returned; the trap, if any, lies in :attr:`trap`.
        """
        trap = self.trap[0]
        self.trap[0] = 0
        if self.raised is None:
            raise traps.from_addresses(error, trap)
        if trap:
            self.library.c.wasm_trap_delete(trap)
        if error:
            self.library.c.wasmtime_error_delete(error)
        self.raise_host_exception()

    def raise_host_exception(self) -> None:
        """Raises what a host function raised: that very object."""
        raised = self.raised
        assert raised is not None
        self.raised = None
        try:
            raise raised
        finally:
            del raised  # or the traceback would keep itself alive through this frame

    def _interrupted(self, _kind: object, error: BaseException, _traceback: object) -> int:
        """An exception that no ``try`` of the trampoline could see: a signal's, raised at its entry."""
        return self.unwind(error)


# -- functions -----------------------------------------------------------------------------------------


class WasmtimeFunc(api.Func):
    """A function, with its argument slots laid out once."""

    def __init__(self, store: WasmtimeStore, type: FuncType, native: wasmtime.Func) -> None:
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


def wrap(kind: ValueType, value: Any) -> int | float:
    """A number as its type holds it: integers of any size are cut to the width of the type, signed.

    Raises:
        TypeError: It is not a number, or not one of that kind.
    """
    if kind is ValueType.F32 or kind is ValueType.F64:
        if not isinstance(value, (int, float)):
            raise TypeError(f"{kind} expected, got {type(value).__name__}")
        # ctypes rounds to the nearest, and what is too large to infinity; struct would refuse it.
        return ctypes.c_float(value).value if kind is ValueType.F32 else float(value)
    if not isinstance(value, int):
        raise TypeError(f"{kind} expected, got {type(value).__name__}")
    bits = 32 if kind is ValueType.I32 else 64
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


def _trampoline(
    store: WasmtimeStore, type: FuncType, function: api.HostFunction
) -> Callable[[Any, Any, Any, int], int]:
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
    store: WasmtimeStore, params: int, has_result: bool, function: api.HostFunction
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


# -- memories, globals, tables ---------------------------------------------------------------------------


class WasmtimeMemory(api.Memory):
    """A memory, seen through one view over its whole reservation; every access is checked against its size first."""

    def __init__(self, store: WasmtimeStore, type: MemoryType, native: wasmtime.Memory) -> None:
        self.type = type
        self.native = native
        self.store = store
        self.known = 0
        """Bytes that the memory is known to have; it may have grown since."""
        self._handle = store.library.handle(native._memory)
        self._view: memoryview | None = None
        if not type.memory64:
            self._view = store.own_view(self._map(_WHOLE_MEMORY))

    @property
    def size(self) -> int:
        self.store.check_open()
        self.known = self.store.library.c.wasmtime_memory_data_size(self.store.context, self._handle)
        return self.known

    def read(self, offset: int, length: int) -> bytes:
        end = offset + length
        view = self._view
        if view is None or self.store.closed or not 0 <= offset <= end <= self.known:
            view = self.view(offset, length)
        return view[offset:end].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        view = self._view
        if view is None or self.store.closed or not 0 <= offset <= end <= self.known:
            view = self.view(offset, len(data))
        view[offset:end] = data

    def grow(self, pages: int) -> int:
        self.store.check_open()
        library = self.store.library
        previous = library.ffi.new("uint64_t *")
        error = library.c.wasmtime_memory_grow(self.store.context, self._handle, pages, previous)
        if error:
            library.c.wasmtime_error_delete(error)
            raise MemoryError(f"the memory cannot grow by {pages} pages")
        self.known = self.size
        return int(previous[0])

    def view(self, offset: int, length: int) -> memoryview:
        """A view of which [offset, offset + length) may be used until the guest runs again; raises ``IndexError``
        when any of that is outside."""
        self.store.check_open()
        end = offset + length
        if offset < 0 or length < 0 or (end > self.known and end > self.size):
            raise IndexError(f"bytes {offset} to {end} are not all inside a memory of {self.size} bytes")
        # Memories with 64-bit offsets may be larger than what is reserved: those are looked up anew each time.
        return self._view if self._view is not None else self._map(self.known)

    def _map(self, length: int) -> memoryview:
        library = self.store.library
        base = library.c.wasmtime_memory_data(self.store.context, self._handle)
        return memoryview(library.ffi.buffer(library.ffi.cast("unsigned char *", base), length)).cast("B")


class WasmtimeGlobal(api.Global):
    """A global."""

    def __init__(self, store: WasmtimeStore, type: GlobalType, native: wasmtime.Global) -> None:
        self.type = type
        self.native = native
        self._store = store

    def get(self) -> int | float:
        value = self.native.value(self._store.native)
        assert isinstance(value, (int, float))
        return value

    def set(self, value: int | float) -> None:
        self.native.set_value(self._store.native, wrap(self.type.content, value))


class WasmtimeTable(api.Table):
    """A table."""

    def __init__(self, store: WasmtimeStore, type: TableType, native: wasmtime.Table) -> None:
        self.type = type
        self.native = native
        self._store = store

    @property
    def size(self) -> int:
        return self.native.size(self._store.native)


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


# -- one call in one crossing ------------------------------------------------------------------------------

_STATE = struct.Struct("<4q")


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
    view = memory.view(0, 0)
    start, state = layout.input, layout.state
    read_state = _STATE.unpack_from
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
