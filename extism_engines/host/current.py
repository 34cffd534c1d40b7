"""The plugin as its own host functions see it, in the middle of a call."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

from ..kernel import Kernel
from .memory import Memory, MemoryView, as_bytes
from .values import Val


class HostState(Protocol):
    """What host functions may reach of the plugin that runs."""

    @property
    def kernel(self) -> Kernel: ...
    @property
    def vars(self) -> MutableMapping[str, bytes]: ...
    @property
    def config(self) -> Mapping[str, str]: ...
    @property
    def host_context(self) -> Any: ...


class CurrentPlugin:
    """Passed to host functions: memory, vars and config of the plugin that called."""

    def __init__(self, state: HostState) -> None:
        self._state = state

    @property
    def vars(self) -> MutableMapping[str, bytes]:
        """The plugin's variables."""
        return self._state.vars

    @property
    def config(self) -> Mapping[str, str]:
        """The plugin's config."""
        return self._state.config

    def host_context(self) -> Any:
        """The object given to ``Plugin.call(host_context=…)``, or ``None``."""
        return self._state.host_context

    def set_error(self, text: str) -> None:
        """Sets the error text of the running call, as the guest's own ``error_set`` does."""
        self._kernel.set_error(text.encode())

    def memory(self, mem: Memory) -> MemoryView:
        """A window on a block."""
        return MemoryView(self._kernel, mem)

    def alloc(self, size: int) -> Memory:
        """Makes a block of ``size`` bytes; size 0 gives the empty block at offset 0.

        Raises:
            OverflowError: The size is negative.
            OutOfMemoryError: There is no room.
        """
        if size < 0:
            raise OverflowError("a block cannot have a negative size")
        return Memory(self._kernel.allocate(size), size)

    def free(self, mem: Memory) -> None:
        """Frees a block."""
        self._kernel.free(mem.offset)

    def memory_at_offset(self, offs: int | Val) -> Memory:
        """The block at a handle; of length 0 where there is none."""
        handle = int(offs.value) if isinstance(offs, Val) else offs
        return Memory(handle, self._kernel.length(handle))

    def return_bytes(self, output: Val, b: bytes | bytearray | memoryview | MemoryView) -> None:
        """Makes a block of these bytes and puts its handle into an output."""
        output.value = self._kernel.store_block(as_bytes(b))

    def return_string(self, output: Val, s: str) -> None:
        """Makes a block of this text in UTF-8 and puts its handle into an output."""
        self.return_bytes(output, s.encode())

    def input_buffer(self, input: Val) -> MemoryView:
        """A window on the block of an input."""
        return self.memory(self.memory_at_offset(input))

    def input_bytes(self, input: Val) -> bytes:
        """The bytes of an input's block; empty where the handle is not one."""
        return self._kernel.block(int(input.value)) or b""

    def input_string(self, input: Val) -> str:
        """The text of an input's block.

        Raises:
            UnicodeDecodeError: It is not UTF-8.
        """
        return self.input_bytes(input).decode("utf-8")

    @property
    def _kernel(self) -> Kernel:
        """For this room only: a host function has no business in the kernel."""
        return self._state.kernel
