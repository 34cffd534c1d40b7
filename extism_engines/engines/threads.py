"""The stack of the running thread."""

from __future__ import annotations

import ctypes
import struct
import sys
import threading

import attrs

_of_thread = threading.local()


@attrs.frozen
class Stack:
    """Where a thread's stack lies: its lowest address, and its bytes."""

    low: int
    size: int


def running_threads_stack() -> Stack | None:
    """The stack of the running thread, or ``None`` where the platform does not tell. Asked for once in each thread: for
    the main one the C library reads the whole map of the process to answer."""
    if not hasattr(_of_thread, "stack"):
        _of_thread.stack = _ask()
    found: Stack | None = _of_thread.stack
    return found


def _ask() -> Stack | None:
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return None
    library = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(256)
    library.pthread_self.restype = ctypes.c_void_p
    if library.pthread_getattr_np(ctypes.c_void_p(library.pthread_self()), attributes):
        return None
    try:
        address, size = ctypes.c_void_p(), ctypes.c_size_t()
        if library.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size)):
            return None
        return Stack(address.value or 0, size.value)
    finally:
        library.pthread_attr_destroy(attributes)
