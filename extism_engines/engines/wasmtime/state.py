"""What everything in one store shares: the low-level context, and whether the store is still open."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import wasmtime

from ... import errors
from . import traps
from .library import Library


class _Life:
    """What is left of a store when it is closed, or collected: then nothing may reach its memory any more.

    Apart from the store, because the collector may run finalizers of a garbage cycle in any order: the store's own
    part of it would otherwise be freed under the hands of somebody's ``__del__``.
    """

    def __init__(self, native: wasmtime.Store) -> None:
        self.closed = False
        self.views: list[memoryview] = []
        self._native = native

    def end(self) -> None:
        """Frees everything, once."""
        if self.closed:
            return
        self.closed = True
        # Whoever still holds one of these gets an error instead of somebody else's memory.
        for view in self.views:
            view.release()
        self._native.close()


class StoreState:
    """The inside of a store, as functions and memories made in it know it."""

    def __init__(self, engine: wasmtime.Engine, library: Library) -> None:
        self.library = library
        self.raised: BaseException | None = None
        """What a host function raised, on its way out through the guest. A slot per store: the package's own slot is
        one for all threads, and mixes their exceptions up."""
        self._native = wasmtime.Store(engine)
        address = ctypes.cast(self._native._context(), ctypes.c_void_p).value
        assert address is not None
        self.context = library.pointer(address)
        self.trap = library.ffi.new("size_t *")
        """Where calls leave the trap that ended them, or 0."""
        self.life = _Life(self._native)
        # Not part of it: they know the store, which would then be kept by what is to end with it.
        self.callbacks: list[Any] = []
        weakref.finalize(self, self.life.end).atexit = False

    @property
    def native(self) -> wasmtime.Store:
        """The package's store."""
        self.check_open()
        return self._native

    def check_open(self) -> None:
        """Raises ``PluginClosedError`` once the store is closed."""
        if self.life.closed:
            raise errors.PluginClosedError("the plugin is closed")

    def own_view(self, view: memoryview) -> memoryview:
        """Takes over a view of this store's memory, to be released when the store closes."""
        self.life.views.append(view)
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

    def begin(self) -> None:
        """Forgets what an earlier call may have left behind: a signal handler can raise between the end of a call and
        :meth:`fail`."""
        self.trap[0] = 0
        self.raised = None

    def raise_host_exception(self) -> None:
        """Raises what a host function raised: that very object."""
        raised = self.raised
        assert raised is not None
        self.raised = None
        try:
            raise raised
        finally:
            del raised  # or the traceback would keep itself alive through this frame

    def close_native(self) -> None:
        """Frees everything. What was handed out before refuses from now on."""
        self.life.end()
        self.callbacks.clear()
