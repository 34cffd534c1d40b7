"""Keeping an engine's signal handlers in place.

Engines turn faults of wasm code (an access out of bounds is a SIGSEGV) into traps by handlers of their own, which
pass on what is not theirs. ``faulthandler.enable()`` puts the interpreter's handlers in their place when it is called
after an engine's first use, and the next trap would end the process. So the handlers are remembered once an engine
works, and put back when a store is made and the interpreter's have taken their place. A fault of the host itself then
still ends the process, but without its report: enabling ``faulthandler`` before the first plugin gives both. Handlers
of other libraries are left alone: they pass on what is not theirs, too.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from typing import Any

_SIZE = 256  # more than a struct sigaction of any platform

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE") if hasattr(signal, name))


class SignalHandlers:
    """The handlers as they were when an engine had installed its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remembered: dict[int, Any] = {}

    def remember(self) -> None:
        """Called once an engine has run something."""
        with self._lock:
            if _supported():
                self._remembered = {number: _handler(number) for number in _SIGNALS}

    def restore(self) -> None:
        """Called when a store is made."""
        with self._lock:
            for number, wanted in self._remembered.items():
                current = _handler(number)
                if current.raw != wanted.raw and (_is_default(current) or _is_interpreters(current)):
                    _library().sigaction(number, wanted, None)


def _supported() -> bool:
    return sys.platform.startswith(("linux", "darwin"))


def _library() -> Any:
    return ctypes.CDLL(None)


def _handler(number: int) -> Any:
    """A signal's handler, as the opaque structure that the C library gives."""
    structure = ctypes.create_string_buffer(_SIZE)
    _library().sigaction(number, None, structure)
    return structure


class _SharedObject(ctypes.Structure):
    """What ``dladdr`` tells of an address."""

    _fields_ = (
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _base_of(address: int | None) -> int | None:
    """Where the shared object or program that holds an address begins in memory."""
    found = _SharedObject()
    if not address or not _library().dladdr(ctypes.c_void_p(address), ctypes.byref(found)):
        return None
    base: int | None = found.base
    return base


def _is_default(handler: Any) -> bool:
    """Whether there is no handler: ``faulthandler.disable()`` leaves none when it was enabled before the engine."""
    return ctypes.c_void_p.from_buffer(handler).value is None


def _is_interpreters(handler: Any) -> bool:
    """Whether a handler is the Python interpreter's own."""
    # The function comes first in the structure on every platform that is supported here.
    function = ctypes.c_void_p.from_buffer(handler).value
    interpreter = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
    base = _base_of(function)
    return base is not None and base == _base_of(interpreter)


handlers = SignalHandlers()
"""The handlers of this process: there is one set of them, whatever the number of engines."""
