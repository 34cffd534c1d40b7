"""Turning what the library reports into this package's errors."""

from __future__ import annotations

import ctypes

import wasmtime
from wasmtime import TrapCode, _ffi

from ...errors import EngineFailureError, Error, Frame, TrapError, TrapKind

MAX_FRAMES = 64
"""A recursion that ended the stack has tens of thousands of frames; the innermost ones tell the story."""

_KINDS = {
    TrapCode.STACK_OVERFLOW: TrapKind.STACK_OVERFLOW,
    TrapCode.MEMORY_OUT_OF_BOUNDS: TrapKind.MEMORY_OUT_OF_BOUNDS,
    TrapCode.HEAP_MISALIGNED: TrapKind.UNALIGNED_ATOMIC,
    TrapCode.TABLE_OUT_OF_BOUNDS: TrapKind.TABLE_OUT_OF_BOUNDS,
    TrapCode.INDIRECT_CALL_TO_NULL: TrapKind.INDIRECT_CALL_TO_NULL,
    TrapCode.BAD_SIGNATURE: TrapKind.BAD_SIGNATURE,
    TrapCode.INTEGER_OVERFLOW: TrapKind.INTEGER_OVERFLOW,
    TrapCode.INTEGER_DIVISION_BY_ZERO: TrapKind.INTEGER_DIVIDE_BY_ZERO,
    TrapCode.BAD_CONVERSION_TO_INTEGER: TrapKind.BAD_CONVERSION_TO_INTEGER,
    TrapCode.UNREACHABLE: TrapKind.UNREACHABLE,
    TrapCode.NULL_REFERENCE: TrapKind.NULL_REFERENCE,
    TrapCode.CAST_FAILURE: TrapKind.CAST_FAILURE,
    TrapCode.ALLOCATION_TOO_LARGE: TrapKind.OUT_OF_MEMORY,
    TrapCode.UNCAUGHT_EXCEPTION: TrapKind.UNCAUGHT_EXCEPTION,
    TrapCode.INTERRUPT: TrapKind.INTERRUPT,
}


def from_addresses(error: int, trap: int) -> Error:
    """Takes over the error or trap that a call reported (one of the two is 0) and says what happened."""
    if trap:
        return from_trap(wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(_ffi.wasm_trap_t))))
    found = wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(_ffi.wasmtime_error_t)))
    return EngineFailureError(str(found))


def from_trap(trap: wasmtime.Trap) -> TrapError:
    """This package's form of a trap."""
    code = trap.trap_code
    kind = _KINDS.get(code, TrapKind.OTHER) if code is not None else TrapKind.OTHER
    frames = tuple(
        Frame(frame.func_index, frame.func_name, frame.module_name, frame.module_offset)
        for frame in trap.frames[:MAX_FRAMES]
    )
    if kind is TrapKind.OTHER:
        return TrapError(trap.message.partition("\n")[0], kind=kind, frames=frames)
    return TrapError(kind=kind, frames=frames)
