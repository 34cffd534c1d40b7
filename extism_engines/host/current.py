"""The plugin as its own host functions see it, in the middle of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Protocol

from ..errors import HostFunctionError
from ..kernel import Kernel
from .values import Val


class Memory:
    """A block of Extism memory: where it begins and how many bytes it has."""

    __slots__ = ("length", "offset")

    def __init__(self, offs: int, length: int) -> None:
        self.offset = offs
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"Memory(offset={self.offset}, length={self.length})"


class MemoryView:
    """A window on a block. Reads and writes go to the plugin's memory at that moment: nothing here can dangle.

    ``view[:]`` and every other slice give ``bytes``, ``view[i]`` a number; ``view[:] = data`` writes.
    """

    def __init__(self, kernel: Kernel, memory: Memory) -> None:
        self._kernel = kernel
        self._offset = memory.offset
        self._length = memory.length

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return self._kernel.memory.read(self._offset, self._length) if self._length else b""

    def __iter__(self) -> Iterator[int]:
        return iter(bytes(self))

    def __getitem__(self, index: Any) -> Any:
        return bytes(self)[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        changed = bytearray(bytes(self))
        changed[index] = value
        if len(changed) != self._length:
            raise ValueError(f"the block has {self._length} bytes; the assignment would make it {len(changed)}")
        self._kernel.memory.write(self._offset, bytes(changed))


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
        self._state.kernel.set_error(text.encode())

    def memory(self, mem: Memory) -> MemoryView:
        """A window on a block."""
        return MemoryView(self._state.kernel, mem)

    def alloc(self, size: int) -> Memory:
        """Makes a block of ``size`` bytes; size 0 gives the empty block at offset 0.

        Raises:
            OverflowError: The size is negative.
            OutOfMemoryError: There is no room.
        """
        if size < 0:
            raise OverflowError("a block cannot have a negative size")
        return Memory(self._state.kernel.allocate(size), size)

    def free(self, mem: Memory) -> None:
        """Frees a block."""
        self._state.kernel.free(mem.offset)

    def memory_at_offset(self, offs: int | Val) -> Memory:
        """The block at a handle; of length 0 where there is none."""
        handle = int(offs.value) if isinstance(offs, Val) else offs
        return Memory(handle, self._state.kernel.length(handle))

    def return_bytes(self, output: Val, b: bytes) -> None:
        """Makes a block of these bytes and puts its handle into an output."""
        output.value = self._state.kernel.store_block(bytes(memoryview(b)))

    def return_string(self, output: Val, s: str) -> None:
        """Makes a block of this text in UTF-8 and puts its handle into an output."""
        self.return_bytes(output, s.encode())

    def input_buffer(self, input: Val) -> MemoryView:
        """A window on the block of an input."""
        return self.memory(self.memory_at_offset(input))

    def input_bytes(self, input: Val) -> bytes:
        """The bytes of an input's block; empty where the handle is not one."""
        return self._state.kernel.block(int(input.value)) or b""

    def input_string(self, input: Val) -> str:
        """The text of an input's block.

        Raises:
            UnicodeDecodeError: It is not UTF-8.
        """
        return self.input_bytes(input).decode("utf-8")

    def read_handle(self, handle: int, what: str) -> bytes:
        """The bytes of a block that a guest passed.

        Raises:
            HostFunctionError: The handle is neither 0 nor the start of a block.
        """
        if not handle:
            return b""
        block = self._state.kernel.block(handle)
        if block is None:
            raise HostFunctionError(f"invalid handle offset for {what}: {handle & (1 << 64) - 1}", exit_code=-1)
        return block

    def write_handle(self, data: bytes) -> int:
        """A new block of these bytes for the guest; 0 for none."""
        return self._state.kernel.store_block(data)

    def free_handle(self, handle: int) -> None:
        """Frees a block by its handle."""
        self._state.kernel.free(handle)
