"""The one error tree.

Every error that this package raises on purpose is an :class:`Error`. The tree follows the phases of a
plugin's life: what to run (:class:`ManifestError`), on which engine (:class:`EngineError`), the bytes of
a module (:class:`ModuleError`), putting instances together (:class:`LinkError`,
:class:`InstantiationError`), and one call (:class:`CallError`).

``str(error)`` is the text that programs written for the official SDK compare, where it has one
(section 13 of the behaviour reference: ``timeout``, ``oom``, ``Function not found: f``). Everything
else (plugin, function, engine, exit code, trap kind, frames) is an attribute, and
:meth:`Error.report` writes all of it. Errors survive pickling, attributes included.
"""

from __future__ import annotations

import enum
import os
import re
from typing import Any

import attrs


class Error(Exception):
    """The root of every error raised by this package. Also available as ``ExtismError``.

    Attributes:
        plugin: Name or id of the plugin, where one is known.
        function: Export that was called, where one was.
        engine: Name of the engine, as in ``wasmtime``.
        exit_code: Status of the call as the reference runtime would report it, where there is one.
    """

    plugin: str | None = None
    function: str | None = None
    engine: str | None = None
    exit_code: int | None = None

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        function: str | None = None,
        engine: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.add_context(plugin=plugin, function=function, engine=engine, exit_code=exit_code)

    def add_context(
        self,
        *,
        plugin: str | None = None,
        function: str | None = None,
        engine: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Fills in what a lower room could not know. What is already known stays."""
        if self.plugin is None and plugin is not None:
            self.plugin = plugin
        if self.function is None and function is not None:
            self.function = function
        if self.engine is None and engine is not None:
            self.engine = engine
        if self.exit_code is None and exit_code is not None:
            self.exit_code = exit_code

    def report(self) -> str:
        """The whole story, one fact a line: the text, then what is known about where and why. A cause whose text the
        lines above it already have is left out."""
        lines = [str(self) or type(self).__name__]
        lines += [f"  {name}: {value}" for name, value in self._facts() if value is not None]
        told = [str(self)]
        cause = self.__cause__
        while cause is not None:
            if not any(_tells(text, cause) for text in told):
                lines.append(f"  caused by: {type(cause).__name__}" + (f": {cause}" if str(cause) else ""))
                told.append(str(cause))
            cause = cause.__cause__
        return "\n".join(lines)

    def _facts(self) -> list[tuple[str, object]]:
        return [
            ("plugin", self.plugin),
            ("function", self.function),
            ("engine", self.engine),
            ("exit code", self.exit_code),
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructor of a subclass may want other arguments than the text: skip it.
        return _restore, (type(self), self.args, self.__dict__.copy())


def _tells(text: str, cause: BaseException) -> bool:
    """Whether a text has all that a cause would add to it."""
    if isinstance(cause, OSError) and cause.strerror:
        # Its own text puts a number and quotes around these.
        parts = [cause.strerror, *(os.fsdecode(name) for name in (cause.filename,) if isinstance(name, (str, bytes)))]
        return all(_quotes(text, part) for part in parts)
    return bool(str(cause)) and _quotes(text, str(cause))


def _quotes(text: str, part: str) -> bool:
    """Whether the part stands in the text as something put there (``…: part``, ``… (part)``, ``"part"``), not merely
    as some of its characters: the text of ``KeyError(1)`` is not told by ``line 1``."""
    return re.search(r"(?:^|[:(\"'`] ?)" + re.escape(part) + r"(?!\w)", text) is not None


def _restore(kind: type[Error], args: tuple[Any, ...], state: dict[str, Any]) -> Error:
    # The built-in class that gives the layout is the only one that may make an object of the class.
    built_in: type[Any] = kind
    while built_in.__module__ != "builtins":
        built_in = built_in.__base__  # type: ignore[assignment]
    error: Error = built_in.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


ExtismError = Error


# -- what to run ---------------------------------------------------------------------------------------


class ManifestError(Error, ValueError):
    """The manifest, or an argument that takes its place, is not right. The text begins with the path
    of the fault where there is one (``wasm[1].hash: …``)."""


class SourceError(ManifestError):
    """The bytes of a module could not be had (missing file, a directory, too large …)."""


class HashMismatchError(SourceError):
    """The bytes are there, but they are not the ones that the manifest names."""


# -- the engine ----------------------------------------------------------------------------------------


class EngineError(Error):
    """Something about the engine itself, not about the plugin."""


class EngineNotFoundError(EngineError, LookupError):
    """No engine goes by that name."""


class EngineUnavailableError(EngineError):
    """The engine is known but cannot run here.

    Attributes:
        reason: Why, in one clause.
        remedy: What to do about it, as a person would type it; ``None`` where nothing helps.
    """

    reason: str = ""
    remedy: str | None = None

    def __init__(self, message: str = "", *, reason: str = "", remedy: str | None = None, **context: Any) -> None:
        super().__init__(message or reason, **context)
        self.reason = reason or message
        self.remedy = remedy


class UnsupportedFeatureError(EngineError):
    """This engine, or this version of the package, cannot do what was asked for. Never silently ignored."""


class EngineFailureError(EngineError):
    """The engine failed in a way that is not the plugin's doing (an internal error, a panic)."""


# -- a module's bytes ----------------------------------------------------------------------------------


class ModuleError(Error):
    """A WebAssembly module cannot be used."""


class MalformedModuleError(ModuleError):
    """The bytes are not a WebAssembly module (garbage, truncated, a component …)."""


class InvalidModuleError(ModuleError):
    """The bytes decode but do not validate."""


# -- putting instances together ------------------------------------------------------------------------


class LinkError(Error):
    """Imports and exports do not fit together."""


class InstantiationError(Error):
    """Instances could not be made (a segment out of bounds, a memory over the limit …)."""


# -- one call ------------------------------------------------------------------------------------------


class CallError(Error):
    """A call did not end well. The plugin stays usable unless the subclass says otherwise."""


class FunctionNotFoundError(CallError, LookupError):
    """The plugin has no such export, or it is not callable as a plugin function."""


class GuestError(CallError):
    """The plugin itself reported failure: it set an error text, or returned a status other than 0."""


class TrapKind(enum.Enum):
    """Why wasm stopped: the same on every engine."""

    UNREACHABLE = "unreachable"
    MEMORY_OUT_OF_BOUNDS = "out of bounds memory access"
    TABLE_OUT_OF_BOUNDS = "out of bounds table access"
    INDIRECT_CALL_TO_NULL = "uninitialized element"
    BAD_SIGNATURE = "indirect call type mismatch"
    INTEGER_OVERFLOW = "integer overflow"
    INTEGER_DIVIDE_BY_ZERO = "integer divide by zero"
    BAD_CONVERSION_TO_INTEGER = "invalid conversion to integer"
    STACK_OVERFLOW = "call stack exhausted"
    NULL_REFERENCE = "null reference"
    CAST_FAILURE = "cast failure"
    UNALIGNED_ATOMIC = "unaligned atomic"
    OUT_OF_MEMORY = "out of memory"
    UNCAUGHT_EXCEPTION = "uncaught exception"
    INTERRUPT = "interrupt"
    OTHER = "other"


@attrs.frozen
class Frame:
    """One frame of wasm, innermost first in :attr:`TrapError.frames`.

    Attributes:
        function_index: Index of the function in its module.
        function_name: From the module's name section, where it has one.
        module_name: From the module's name section, where it has one.
        module_offset: Byte offset in the module that ran, where the engine knows it. Where a module was rewritten
            before it was compiled (for a limit, a start function or the stack budget) that is the rewritten one.
    """

    function_index: int
    function_name: str | None = None
    module_name: str | None = None
    module_offset: int | None = None

    def __str__(self) -> str:
        name = self.function_name or f"function[{self.function_index}]"
        place = f" at {self.module_offset:#x}" if self.module_offset is not None else ""
        return (f"{self.module_name}!" if self.module_name else "") + name + place


class TrapError(CallError):
    """Wasm trapped.

    Attributes:
        kind: Why, as a :class:`TrapKind`.
        frames: The wasm stack, innermost frame first; empty where the engine has none.
    """

    kind: TrapKind = TrapKind.OTHER
    frames: tuple[Frame, ...] = ()

    def __init__(
        self,
        message: str = "",
        *,
        kind: TrapKind = TrapKind.OTHER,
        frames: tuple[Frame, ...] = (),
        **context: Any,
    ) -> None:
        super().__init__(message or f"wasm trap: {kind.value}", **context)
        self.kind = kind
        self.frames = frames

    def _facts(self) -> list[tuple[str, object]]:
        facts = [*super()._facts(), ("trap", self.kind.value)]
        return facts + [("frame", str(frame)) for frame in self.frames]


class PluginTimeoutError(CallError, TimeoutError):
    """The time was up."""


class CancelledError(CallError):
    """Somebody called a cancel handle."""


class OutOfFuelError(CallError):
    """The fuel was used up."""


class OutOfMemoryError(CallError, MemoryError):
    """A memory limit was reached (``oom``)."""


class PluginExit(CallError):
    """The plugin ended itself with a status other than 0."""


class HostFunctionError(CallError):
    """A host function raised, or gave a value that does not fit its type. The exception that it
    raised, that very object, is ``__cause__``."""


class HttpNotAllowedError(CallError):
    """The plugin asked for a host that is not on its list."""


class PluginBusyError(CallError, RuntimeError):
    """The plugin is in the middle of a call, and this one comes from inside it."""


class PluginClosedError(Error, TypeError):
    """The plugin, or what belonged to it, was used after ``close()``. A ``TypeError`` as well, because
    that is what the official SDK raises there."""


class WrongThreadError(CallError, RuntimeError):
    """This engine's plugins belong to the thread that made them."""
