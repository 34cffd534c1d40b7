"""The low-level face of the Wasmtime library that the package ``wasmtime`` has loaded.

cffi, not ctypes, because of signals: since CPython 3.11 the exception of a signal handler (Ctrl-C) may be raised at the
very entry of a callback, before any ``try`` in it. ctypes prints such an exception and carries on as if the callback
had succeeded; cffi hands it to ``onerror``, which can still unwind the guest.
"""

from __future__ import annotations

import ctypes
from typing import Any

import attrs
import cffi
from wasmtime import _bindings, _ffi

from ...errors import EngineUnavailableError

# Pointers that this package only passes on are plain numbers here: cheaper than boxing them at every call.
_DECLARATIONS = """
size_t wasmtime_func_call_unchecked(void *context, void *func, void *slots, size_t count, size_t *trap);
void wasmtime_func_new_unchecked(void *context, void *type, void *callback, void *data, void *finalizer, void *func);
size_t wasmtime_memory_data(void *context, void *memory);
size_t wasmtime_memory_data_size(void *context, void *memory);
size_t wasmtime_memory_grow(void *context, void *memory, uint64_t pages, uint64_t *previous);
size_t wasmtime_trap_new(char *message, size_t length);
void wasmtime_error_delete(size_t error);
void wasm_trap_delete(size_t trap);
"""

CALLBACK = "size_t(void *, void *, int64_t *, size_t)"
"""Type of a host function as the library calls it: data, caller, slots, number of slots; gives a trap or 0."""

SLOT_SIZE = 16
"""Bytes of one argument or result."""

_HANDLE_SIZES = {
    "wasmtime_func_t": 16,
    "wasmtime_instance_t": 16,
    "wasmtime_memory_t": 24,
    "wasmtime_global_t": 24,
    "wasmtime_table_t": 24,
    "wasmtime_extern_t": 32,
}


@attrs.frozen(eq=False)
class Library:
    """The opened library: ``c`` holds the functions declared above, ``ffi`` makes and casts C data."""

    ffi: Any
    c: Any

    def pointer(self, address: int) -> Any:
        """An address as something to pass for ``void *``."""
        return self.ffi.cast("void *", address)

    def handle(self, struct: ctypes.Structure) -> Any:
        """A copy of one of the package's handle structures, which lives as long as what this gives."""
        return self.ffi.from_buffer("uint64_t[]", bytearray(struct))


def load() -> Library:
    """Opens the library a second time by the path that the package used, which gives the same library.

    Raises:
        EngineUnavailableError: The package is not laid out as the versions that were tested.
    """
    try:
        for name, size in _HANDLE_SIZES.items():
            found = ctypes.sizeof(getattr(_bindings, name))
            if found != size:
                # A handle of the wrong size is memory corruption, not an error code.
                raise EngineUnavailableError(
                    reason=f"{name} takes {found} bytes in this version of wasmtime, not the {size} that were tested",
                    remedy='pip install "wasmtime>=50.0.1,<51"',
                )
        ffi = cffi.FFI()
        ffi.cdef(_DECLARATIONS)
        return Library(ffi=ffi, c=ffi.dlopen(_ffi.dll._name))
    except (AttributeError, OSError) as error:
        raise EngineUnavailableError(
            reason=f"the library of this version of wasmtime cannot be used ({error})",
            remedy='pip install "wasmtime>=50.0.1,<51"',
        ) from error
