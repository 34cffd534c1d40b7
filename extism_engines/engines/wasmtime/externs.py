"""Memories, globals and tables."""

from __future__ import annotations

import wasmtime

from ...wasm.types import GlobalType, MemoryType, TableType
from .. import api
from ..numbers import wrap
from .state import StoreState

_WHOLE_MEMORY = 1 << 32
"""Address space that the library reserves for every memory with 32-bit offsets: its base never moves."""


class WasmtimeMemory(api.Memory):
    """A memory, seen through one view over its whole reservation; every access is checked against its size first."""

    def __init__(self, store: StoreState, type: MemoryType, native: wasmtime.Memory) -> None:
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
        if view is None or self.store.life.closed or not 0 <= offset <= end <= self.known:
            view = self.view(offset, length)
        return view[offset:end].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        view = self._view
        if view is None or self.store.life.closed or not 0 <= offset <= end <= self.known:
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

    def __init__(self, store: StoreState, type: GlobalType, native: wasmtime.Global) -> None:
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

    def __init__(self, store: StoreState, type: TableType, native: wasmtime.Table) -> None:
        self.type = type
        self.native = native
        self._store = store

    @property
    def size(self) -> int:
        return self.native.size(self._store.native)
