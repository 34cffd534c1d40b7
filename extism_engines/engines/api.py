"""The engine contract, version 1.

An engine compiles, links and runs WebAssembly, and nothing else: it knows neither plugins nor manifests,
and everything that a plugin or a caller can observe is written once, above it. To add an engine,
subclass what is marked *mandatory* here, and publish a factory under the entry-point group
``extism_engines.engines`` (see :mod:`extism_engines.engines`).

**Promise.** Within one :data:`API_VERSION` methods are only added, with defaults; what is mandatory stays as
it is. An engine says in :attr:`Engine.api_version` which contract it was written against, and one that this
package does not know is reported as unavailable, never half used.

**Values.** Numbers are plain ``int`` and ``float``. Integers come out signed; on the way in every integer is
accepted and wrapped to the width of its type. Results of a call are always a tuple.

**Threads.** An :class:`Engine` and a :class:`Module` may be used from any thread. A :class:`Store`, and what was
made in it, is used by one thread at a time: the layer above sees to that. Where
:attr:`Capabilities.thread_bound` is true it also sees to it that this is always the same thread.

**Errors.** Adapters raise this package's errors only (:mod:`extism_engines.errors`), never those of the package
behind them; exceptions of host functions pass through untouched, as the very same object.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Union

import attrs

from .. import errors
from ..wasm.reader import read_module
from ..wasm.types import ExportType, FuncType, GlobalType, ImportType, MemoryType, TableType

API_VERSION = 1

_T = TypeVar("_T")

PAGE_SIZE = 65536
"""Bytes in a page of linear memory."""


@attrs.frozen
class Capabilities:
    """What an engine can do. What it cannot, the layer above makes up for or refuses aloud.

    Attributes:
        proposals: Names of the WebAssembly proposals it runs correctly, as in :mod:`extism_engines.wasm.proposals`.
        refused: Proposals that it would take but must not be trusted with, each with the reason.
        releases_gil: Other Python threads run while wasm runs.
        thread_bound: Stores belong to the thread that made them.
        guards_stack: Exhausted stack is a clean trap, also with Python frames on the stack. Where this is
            false every module is rewritten to keep a budget of stack bytes in an imported global, which
            :meth:`Store.stack_budget` provides.
        serializes: :meth:`Module.serialize` and :meth:`Engine.deserialize` work.
    """

    proposals: frozenset[str]
    refused: Mapping[str, str] = attrs.field(factory=dict)
    releases_gil: bool = False
    thread_bound: bool = False
    guards_stack: bool = True
    serializes: bool = False


class Engine(ABC):
    """Compiles modules and makes stores. One object per engine and process, shared by all plugins."""

    api_version: int = API_VERSION

    @property
    @abstractmethod
    def name(self) -> str:
        """*Mandatory.* ``family`` or ``family:variant``, as a user types it."""

    @property
    @abstractmethod
    def version(self) -> str:
        """*Mandatory.* Version of the engine, for tables and cache keys."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """*Mandatory.* The same value each time."""

    @abstractmethod
    def compile(self, wasm: bytes) -> Module:
        """*Mandatory.* Compiles a binary module.

        Called with bytes that :meth:`validate` accepted, possibly rewritten since.

        Raises:
            InvalidModuleError: The bytes are not a valid module for this engine.
            UnsupportedFeatureError: They need what this engine lacks.
        """

    @abstractmethod
    def new_store(self, main: Module | None = None) -> Store:
        """*Mandatory.* An empty store. Called once per plugin instance.

        Args:
            main: The module that will be instantiated last, with most of what is made before as its imports. An
                engine may prepare beside it, once, what all stores with the same ``main`` need.
        """

    def validate(self, wasm: bytes) -> None:
        """Checks a module as its author wrote it, before anything is rewritten. The default compiles it.

        Raises:
            InvalidModuleError: As for :meth:`compile`.
        """
        self.compile(wasm)

    def deserialize(self, artifact: bytes, wasm: bytes) -> Module:
        """Loads what :meth:`Module.serialize` gave. Native code: the caller vouches for the artefact.

        Args:
            artifact: The serialised code, unchanged; the adapter checks this by a checksum of its own.
            wasm: The binary that it was made from, for types of imports and exports.
        """
        raise errors.UnsupportedFeatureError(f"{self.name} cannot load compiled modules", engine=self.name)

    def parse_text(self, text: str) -> bytes:
        """Turns the text format into a binary module.

        Raises:
            MalformedModuleError: The text does not parse.
            UnsupportedFeatureError: This engine has no text parser (the default).
        """
        raise errors.UnsupportedFeatureError(f"{self.name} cannot read the WebAssembly text format", engine=self.name)

    def once(self, key: str, make: Callable[[], _T]) -> _T:
        """What the layer above makes once per engine (its compiled kernel), kept with the engine.

        Two threads may both make it; the first to finish is kept.
        """
        kept: dict[str, Any] = self.__dict__.setdefault("_kept", {})
        if key not in kept:
            kept.setdefault(key, make())
        found: _T = kept[key]
        return found


class Module:
    """A compiled module: immutable, shared between stores and threads.

    ``imports`` and ``exports`` are read from the binary by our own reader, so an adapter need not convert types.
    """

    def __init__(self, wasm: bytes) -> None:
        """Args: the binary module that was compiled."""
        summary = read_module(wasm)
        self.imports: tuple[ImportType, ...] = summary.imports
        self.exports: tuple[ExportType, ...] = summary.exports

    def serialize(self) -> bytes:
        """Native code that :meth:`Engine.deserialize` of the same engine, version and CPU loads again."""
        raise errors.UnsupportedFeatureError("this engine cannot serialise compiled modules")


class Func(ABC):
    """A function of some instance, or one made by :meth:`Store.host_function`.

    Prepared once, then cheap to call.
    """

    type: FuncType

    @abstractmethod
    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """*Mandatory.* Runs it.

        Raises:
            TypeError: The number of arguments is wrong, or one is not a number.
            TrapError: Wasm trapped; the instance can be called again.
            BaseException: Whatever a host function, or a signal handler running in one, raised: that very object.
            PluginClosedError: The store is closed.
        """


class Memory(ABC):
    """A linear memory. Offsets and lengths are bytes; nothing handed out can dangle."""

    type: MemoryType

    @property
    @abstractmethod
    def size(self) -> int:
        """*Mandatory.* Bytes, now."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """*Mandatory.* A copy. Raises ``IndexError`` when any of it is outside."""

    @abstractmethod
    def write(self, offset: int, data: bytes) -> None:
        """*Mandatory.* Raises ``IndexError``, with nothing written, when any of it is outside."""

    @abstractmethod
    def grow(self, pages: int) -> int:
        """*Mandatory.* Grows; returns the old size in pages. Raises ``MemoryError`` when it cannot."""


class Global(ABC):
    """A global with a number in it."""

    type: GlobalType

    @abstractmethod
    def get(self) -> int | float:
        """*Mandatory.*"""

    @abstractmethod
    def set(self, value: int | float) -> None:
        """*Mandatory.* Only called for mutable ones."""


class Table(ABC):
    """A table; the host never looks inside, it only passes tables on."""

    type: TableType

    @property
    @abstractmethod
    def size(self) -> int:
        """*Mandatory.* Elements, now."""


Extern = Union[Func, Memory, Global, Table]

HostFunction = Callable[..., Any]
"""Takes the parameters as numbers. Gives a number for one result, a tuple for several; for none it does not matter."""


class Instance(ABC):
    """An instance. Its store keeps it alive."""

    @property
    @abstractmethod
    def exports(self) -> Mapping[str, Extern]:
        """*Mandatory.* By name; the same object each time. Tags and other kinds unknown here are left out."""


@attrs.frozen
class ExchangeLayout:
    """Where in its memory an exchange finds things; bytes from the start of the memory.

    Attributes:
        input: Where the input goes.
        state: Four little-endian 64-bit words: status of the call, offset of the output, its length, handle of the
            error (0 for none).
    """

    input: int
    state: int


Exchange = Callable[[bytes], Union[bytes, None]]
"""One call: input in, output out. ``None`` when the status or the error handle is not 0: the caller then looks."""


class Store(ABC):
    """Everything that belongs to one plugin instance.

    It owns every instance made in it until :meth:`close`, which drops them together; their functions, memories and
    globals refuse after that. Passing an export of one instance as the import of another stays inside the
    engine: no Python runs in between.
    """

    @abstractmethod
    def host_function(self, type: FuncType, function: HostFunction) -> Func:
        """*Mandatory.* A function for guests to import.

        The guest is unwound by any exception of ``function``, and the same object comes out of the call. A result that
        does not fit the type raises ``TypeError``. All types are numbers: the layer above refuses others.
        """

    @abstractmethod
    def instantiate(self, module: Module, imports: Sequence[Extern]) -> Instance:
        """*Mandatory.* Makes an instance.

        Called with one import per entry of ``module.imports``, in that order, each from this store and of the right
        type.

        Raises:
            LinkError: An import does not fit after all.
            InstantiationError: A segment is out of bounds, a memory cannot be had …
            TrapError: The start function trapped (modules rewritten by this package have none).
        """

    @abstractmethod
    def close(self) -> None:
        """*Mandatory.* Drops everything. Called once, on the owning thread, never while a guest runs."""

    def stack_budget(self, reserve: int) -> Global:
        """The mutable ``i32`` global that rewritten modules import to count stack bytes. Engines that do not
        guard the stack provide it; they fill it before each outermost call. After a trap it is negative when the
        stack was what ended.

        Args:
            reserve: Bytes of stack that must lie below a budget of 0, besides what host functions need.
        """
        raise errors.UnsupportedFeatureError("this engine guards the stack itself")

    def exchange(
        self, entry: Func, memory: Memory, layout: ExchangeLayout, make_room: Callable[[int], None]
    ) -> Exchange:
        """A prepared call of an entry: put bytes at the input place, call ``entry(length)``, hand back the output.

        The default works on any engine and is the reference: an engine that does the same as one native operation
        is tested against it.

        Args:
            entry: Takes the input's length as an ``i64``; gives nothing; leaves the state words filled.
            memory: Where input, state and output lie.
            layout: Their places.
            make_room: Called with a number of bytes that the memory must hold; grows it or raises.
        """
        return generic_exchange(entry, memory, layout, make_room)


def segment_fault(trap: errors.TrapError) -> errors.Error:
    """For adapters: what to raise for a trap during instantiation. Out of bounds there is a segment that does not fit,
    unless the module has a start function, and modules of plugins have none any more."""
    if trap.kind in (errors.TrapKind.MEMORY_OUT_OF_BOUNDS, errors.TrapKind.TABLE_OUT_OF_BOUNDS):
        return errors.InstantiationError(f"a segment does not fit: {trap.kind.value}")
    return trap


EXCHANGE_STATE = struct.Struct("<4q")
"""The state words of an exchange."""


def generic_exchange(entry: Func, memory: Memory, layout: ExchangeLayout, make_room: Callable[[int], None]) -> Exchange:
    """The reference exchange, over nothing but :class:`Func` and :class:`Memory`."""

    def exchange(data: bytes) -> bytes | None:
        end = layout.input + len(data)
        if end > memory.size:
            make_room(end)
        memory.write(layout.input, data)
        entry(len(data))
        status, offset, length, error = EXCHANGE_STATE.unpack(memory.read(layout.state, EXCHANGE_STATE.size))
        if status or error:
            return None
        return memory.read(offset, length)

    return exchange
