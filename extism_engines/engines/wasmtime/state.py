"""What everything in one store shares: the low-level context, and whether the store is still open."""

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime

from ... import errors
from . import traps
from .library import Library


class StoreState:
    """The inside of a store, as functions and memories made in it know it."""

    def __init__(self, engine: wasmtime.Engine, library: Library) -> None:
        self.library = library
        self.closed = False
        self.raised: BaseException | None = None
        """What a host function raised, on its way out through the guest. A slot per store: the package's own slot is
        one for all threads, and mixes their exceptions up."""
        self._native = wasmtime.Store(engine)
        address = ctypes.cast(self._native._context(), ctypes.c_void_p).value
        assert address is not None
        self.context = library.pointer(address)
        self.trap = library.ffi.new("size_t *")
        """Where calls leave the trap that ended them, or 0."""
        self._callbacks: list[Any] = []
        self._views: list[memoryview] = []

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

    def own_callback(self, callback: Any) -> None:
        """Keeps what the library calls, until the store closes."""
        self._callbacks.append(callback)

    def close_native(self) -> None:
        """Frees everything. What was handed out before refuses from now on."""
        self.closed = True
        self.context = None
        # Whoever still holds one of these gets an error instead of somebody else's memory.
        for view in self._views:
            view.release()
        self._views.clear()
        self._native.close()
        self._callbacks.clear()
