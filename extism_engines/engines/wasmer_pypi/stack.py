"""How much stack the running thread has left.

PyPI Wasmer notices the end of the stack only by running into it, and then jumps out over whatever Python code is on it:
locks stay held, ``finally`` blocks are skipped. So modules count the bytes they use, and this says how many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import cffi

from ...errors import CallError
from ..threads import running_threads_stack

MAX_BUDGET = 4 << 20
"""Bytes of stack that guest code may use at most, as counted by the rewriter. It counts several times what ordinary
frames take, so that this is about the depth that Wasmtime gives."""

MIN_BUDGET = 32 << 10
"""With less than this a call is not begun."""

_LEAST_HOST_RESERVE, _MOST_HOST_RESERVE = 96 << 10, 2 << 20
"""Bytes that stay free below the budget for host functions: a quarter of the stack within these bounds."""

_CONTEXT_SIZE = 4096  # more than a ucontext_t of any platform
_RSP_OFFSET = 160  # of gregs[REG_RSP] in a ucontext_t: glibc and musl on x86-64


Gauge = Callable[[], int]
"""Gives the bytes of stack that guest code may use in a call that begins now, on the thread that made the gauge. Raises
``CallError`` when there is next to nothing left: the guest has not run, so that this is no trap."""


def make_gauge(reserve: int) -> Gauge:
    """A gauge for the running thread.

    Args:
        reserve: Bytes that must lie below a budget of 0, besides what host functions need.
    """
    stack = running_threads_stack()
    if stack is None:
        return lambda: _blind_budget(reserve)
    low = stack.low
    ffi, get_context = _get_context()
    context = ffi.new("char[]", _CONTEXT_SIZE)
    stack_pointer = memoryview(ffi.buffer(context)).cast("B")[_RSP_OFFSET : _RSP_OFFSET + 8].cast("Q")
    get_context(context)
    quarter: int = (stack_pointer[0] - low) // 4
    below = reserve + max(_LEAST_HOST_RESERVE, min(quarter, _MOST_HOST_RESERVE))
    floor = low + below

    def budget() -> int:
        # The library reports where the stack pointer is: exact whatever the interpreter has put on the stack.
        get_context(context)
        free: int = stack_pointer[0] - floor
        if free >= MAX_BUDGET:
            return MAX_BUDGET
        if free < MIN_BUDGET:
            raise _too_little(max(free + below, 0), below + MIN_BUDGET)
        return free & -4096  # in steps, so that calls from about the same depth need not set the budget anew

    return budget


@cache
def _get_context() -> tuple[Any, Any]:
    """The C library's ``getcontext``, with the cffi object that it belongs to."""
    ffi = cffi.FFI()
    ffi.cdef("int getcontext(void *context);")
    return ffi, ffi.dlopen(None).getcontext


def _blind_budget(reserve: int) -> int:
    """Where the stack cannot be measured: a part of what a thread surely has (macOS gives 512 KiB by default,
    Windows 1 MiB)."""
    size = threading.stack_size() or 512 << 10
    budget = min(size // 2 - reserve, 256 << 10)
    if budget < MIN_BUDGET:
        raise _too_little(size // 2, reserve + MIN_BUDGET)
    return budget


def _too_little(left: int, needed: int) -> CallError:
    return CallError(
        f"the thread has {left >> 10} KiB of stack left, and this plugin needs {needed >> 10}; "
        "give it a larger stack (threading.stack_size)",
        exit_code=-1,
    )
