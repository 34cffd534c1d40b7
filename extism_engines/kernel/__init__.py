"""The kernel: Extism memory, input, output and error text, as a wasm module (``kernel.wat``) and its Python face.

One instance per plugin. Guests are linked to it wasm-to-wasm; the host reads and writes its memory and hardly ever
calls it. Section 1 and 2 of the protocol's description are its specification; places and sizes are explained in
``kernel.wat``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from importlib.resources import files

import attrs

from ..engines import api
from ..errors import LinkError, OutOfMemoryError, TrapError
from ..wasm.types import FuncType, ValueType

_HEAP = 1024
_HEADER = struct.Struct("<IIQ")  # capacity, used, mark
_HEADER_BYTES = _HEADER.size
_FIRST = _HEAP + _HEADER_BYTES
_LIVE = 0x4C4956455F424C4B
_NO_MARK = bytes(8)
_ERROR = 24
_TOP = 48
_BOUNDS = struct.Struct("<3Q")  # top of the heap, where it was before a block was taken back, bytes of memory
_BOUNDS_BYTES = _BOUNDS.size
_TOP_AND_HIGH = struct.Struct("<2Q")
_LIMIT = 72
_OUT_OF_MEMORY = 80
_WORD = struct.Struct("<Q")

_GLANCE = 48
"""Bytes of a block that are read together with its header: most keys and messages are no longer."""

_NEAR = 4096
"""Blocks below are read together with the bounds of the heap."""

LAYOUT = api.ExchangeLayout(input=_FIRST, state=0)

NAMESPACE = "extism:host/env"
"""What guests import these functions from."""

_NOT_FOR_GUESTS = frozenset({"memory", "begin"})

_ENTRY_KINDS = {
    (): "none",
    (ValueType.I32,): "i32",
    (ValueType.I64,): "i64",
    (ValueType.F32,): "f32",
    (ValueType.F64,): "f64",
}


@attrs.frozen(eq=False)
class KernelCode:
    """The kernel and the entry thunks, compiled: made once per engine."""

    kernel: api.Module
    entries: Mapping[str, api.Module]

    @classmethod
    def of(cls, engine: api.Engine) -> KernelCode:
        """The compiled kernel of an engine."""
        return engine.once("kernel", lambda: cls._compile(engine))

    @classmethod
    def _compile(cls, engine: api.Engine) -> KernelCode:
        entries = {kind: engine.compile(_binary(f"entry_{kind}")) for kind in _ENTRY_KINDS.values()}
        return cls(engine.compile(_binary("kernel")), entries)

    @property
    def guest_functions(self) -> dict[str, FuncType]:
        """The functions that guests may import, by name."""
        return {
            export.name: export.type
            for export in self.kernel.exports
            if isinstance(export.type, FuncType) and export.name not in _NOT_FOR_GUESTS
        }


def _binary(name: str) -> bytes:
    return (files(__package__) / f"{name}.wasm").read_bytes()


class Kernel:
    """One kernel instance. Handles are offsets of blocks, as guests see them; 0 is the empty block."""

    def __init__(self, code: KernelCode, store: api.Store, max_pages: int | None = None) -> None:
        """
        Args:
            code: The kernel compiled by the store's engine.
            store: Where the instance is made.
            max_pages: Pages of 64 KiB that the blocks of one call may take; ``None`` for 4 GiB.
        """
        self._code = code
        self._store = store
        self._instance = store.instantiate(code.kernel, [])
        exports = self._instance.exports
        memory, alloc, begin, free = (exports[name] for name in ("memory", "alloc", "begin", "free"))
        assert isinstance(memory, api.Memory)
        assert isinstance(alloc, api.Func)
        assert isinstance(begin, api.Func)
        assert isinstance(free, api.Func)
        self.memory = memory
        self._alloc, self._begin, self._free = alloc, begin, free
        self._limit = 1 << 32
        if max_pages is not None:
            # One page more: the first holds the kernel's own state.
            self._limit = min(self._limit, (max_pages + 1) * api.PAGE_SIZE)
            memory.write(_LIMIT, _WORD.pack(self._limit))

    @property
    def functions(self) -> dict[str, api.Extern]:
        """What guests may import from ``extism:host/env`` and the kernel provides."""
        exports = self._instance.exports
        return {name: exports[name] for name in self._code.guest_functions}

    def prepare_entry(self, export: api.Func) -> api.Exchange:
        """Makes the thunk for an export without parameters and with at most one result.

        Raises:
            LinkError: Its type has parameters, several results or a reference as result.
        """
        kind = _ENTRY_KINDS.get(export.type.results)
        if kind is None or export.type.params:
            raise LinkError(f"a function of type {export.type} cannot be called as a plugin function")
        thunk = self._store.instantiate(self._code.entries[kind], [self.memory, self._begin, export])
        call = thunk.exports["call"]
        assert isinstance(call, api.Func)
        return self._store.exchange(call, self.memory, LAYOUT, self._make_room)

    def _make_room(self, end: int) -> None:
        size = self.memory.size
        try:
            if end > self._limit:
                raise MemoryError
            if end > size:
                self.memory.grow((end - size + api.PAGE_SIZE - 1) // api.PAGE_SIZE)
        except MemoryError as error:
            raise OutOfMemoryError("oom", exit_code=-1) from error

    # -- what a call left behind -------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """What the export returned, signed: 0 for success."""
        return self._state()[0]

    @property
    def output(self) -> bytes:
        """The output of the last call; empty where none was set."""
        _, offset, length, _ = self._state()
        return self.memory.read(offset, length)

    @property
    def error(self) -> bytes | None:
        """The error text that the guest set; ``None`` if it set none. Empty when the block was freed meanwhile."""
        handle = self._state()[3]
        return self.block(handle) or b"" if handle else None

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the trap that ended the call was the kernel refusing to grow beyond its limit."""
        return bool(_WORD.unpack(self.memory.read(_OUT_OF_MEMORY, 8))[0])

    def _state(self) -> tuple[int, ...]:
        return api.EXCHANGE_STATE.unpack(self.memory.read(LAYOUT.state, api.EXCHANGE_STATE.size))

    # -- blocks ------------------------------------------------------------------------------------------

    def length(self, handle: int) -> int:
        """Bytes of a live block; 0 for 0 and for everything that is not the start of one."""
        if handle < _FIRST or handle % 16:
            return 0
        try:
            _, used, mark = _HEADER.unpack(self.memory.read(handle - _HEADER_BYTES, _HEADER_BYTES))
        except IndexError:
            return 0
        return used if mark == _LIVE else 0

    def block(self, handle: int) -> bytes | None:
        """The bytes of a live block; ``None`` for 0 and for everything that is not the start of one."""
        found = self._look(handle)
        return None if found is None else found[1]

    def take(self, handle: int) -> bytes | None:
        """The bytes of a live block, which is freed; ``None``, and nothing happens, for everything else."""
        if _FIRST < handle <= _NEAR and not handle % 16:
            # The usual case, a short last block of a small heap: everything there is to know in one read.
            seen = self.memory.read(_TOP, handle + _GLANCE - _TOP)
            capacity, used, mark = _HEADER.unpack_from(seen, handle - _HEADER_BYTES - _TOP)
            top, high = _TOP_AND_HIGH.unpack_from(seen)
            if mark == _LIVE and handle + capacity == top and used <= _GLANCE:
                self._take_back(handle, top, high)
                return seen[handle - _TOP : handle - _TOP + used]
        found = self._look(handle)
        if found is None:
            return None
        capacity, data = found
        self._release(handle, capacity)
        return data

    def _look(self, handle: int) -> tuple[int, bytes] | None:
        """Capacity and bytes of a live block."""
        if handle < _FIRST or handle % 16:
            return None
        try:
            glance = self.memory.read(handle - _HEADER_BYTES, _HEADER_BYTES + _GLANCE)
            capacity, used, mark = _HEADER.unpack_from(glance)
            if mark != _LIVE:
                return None
            in_sight = used <= _GLANCE
            return capacity, glance[_HEADER_BYTES : _HEADER_BYTES + used] if in_sight else self.memory.read(
                handle, used
            )
        except IndexError:
            # The last block of a full memory, or a header that a guest has written over.
            return self._look_at_the_end(handle)

    def _look_at_the_end(self, handle: int) -> tuple[int, bytes] | None:
        try:
            capacity, used, mark = _HEADER.unpack(self.memory.read(handle - _HEADER_BYTES, _HEADER_BYTES))
            return (capacity, self.memory.read(handle, used)) if mark == _LIVE and used else None
        except IndexError:
            return None

    def allocate(self, size: int) -> int:
        """Makes a block; gives its handle, 0 for size 0.

        Raises:
            OutOfMemoryError: There is no room for it.
        """
        try:
            handle = self._alloc(size)[0] if 0 <= size < 1 << 32 else 0
        except TrapError as error:
            self.memory.write(_OUT_OF_MEMORY, _WORD.pack(0))  # said here and now, not at a later trap
            raise OutOfMemoryError("oom", exit_code=-1) from error  # the only reason for the kernel to trap
        if size and not handle:
            raise OutOfMemoryError("failed to allocate extism memory", exit_code=-1)
        return int(handle)

    def store_block(self, data: bytes) -> int:
        """Makes a block of these bytes; gives its handle, 0 for none.

        Raises:
            OutOfMemoryError: There is no room for them.
        """
        size = len(data)
        if not size:
            return 0
        top, _, memory_bytes = _BOUNDS.unpack(self.memory.read(_TOP, _BOUNDS_BYTES))
        capacity = (size + 15) & -16
        handle: int = top + _HEADER_BYTES
        if handle + capacity > memory_bytes:
            handle = self.allocate(size)
            self.memory.write(handle, data)
            return handle
        # The common case needs no call: the heap is extended from here.
        self.memory.write(top, _HEADER.pack(capacity, size, _LIVE) + data)
        self.memory.write(_TOP, _WORD.pack(handle + capacity))
        return handle

    def free(self, handle: int) -> None:
        """Frees a block; nothing happens for what is not one."""
        if handle < _FIRST or handle % 16:
            return
        try:
            capacity, _, mark = _HEADER.unpack(self.memory.read(handle - _HEADER_BYTES, _HEADER_BYTES))
        except IndexError:
            return
        if mark == _LIVE:
            self._release(handle, capacity)

    def _release(self, handle: int, capacity: int) -> None:
        """Frees a live block."""
        top, high = _TOP_AND_HIGH.unpack(self.memory.read(_TOP, _TOP_AND_HIGH.size))
        if handle + capacity == top and handle != _FIRST:
            self._take_back(handle, top, high)
        else:
            self._free(handle)

    def _take_back(self, handle: int, top: int, high: int) -> None:
        """Frees the last block by moving the top of the heap, which needs no call. Its bytes stay until they are used
        again, as those of other freed blocks do."""
        self.memory.write(handle - 8, _NO_MARK)
        self.memory.write(_TOP, _TOP_AND_HIGH.pack(handle - _HEADER_BYTES, top if top > high else high))

    def set_error(self, text: bytes) -> None:
        """Sets the error text of the running call."""
        self.memory.write(_ERROR, _WORD.pack(self.store_block(text)))


__all__ = ["LAYOUT", "NAMESPACE", "Kernel", "KernelCode"]
