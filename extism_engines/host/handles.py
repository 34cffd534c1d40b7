"""Blocks that guests pass to the host by their handles, and the error when a handle is none."""

from __future__ import annotations

from ..errors import HostFunctionError
from ..kernel import Kernel


def read_handle(kernel: Kernel, handle: int, what: str) -> bytes:
    """The bytes of a block that a guest passed; none for 0.

    Args:
        kernel: Where the block lies.
        handle: What the guest passed.
        what: What the block is to be, for the error's text.

    Raises:
        HostFunctionError: The handle is neither 0 nor the start of a block.
    """
    data = kernel.block(handle)
    return _without_block(handle, what) if data is None else data


def take_handle(kernel: Kernel, handle: int, what: str) -> bytes:
    """As :func:`read_handle`; the block is then freed."""
    data = kernel.take(handle)
    return _without_block(handle, what) if data is None else data


def _without_block(handle: int, what: str) -> bytes:
    if not handle:
        return b""
    raise HostFunctionError(f"invalid handle offset for {what}: {handle & (1 << 64) - 1}", exit_code=-1)
