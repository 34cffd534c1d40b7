"""Plugins: their life, and one call from input to output (section 5 of the protocol's description)."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import FrameType, MappingProxyType, TracebackType
from typing import Any, NoReturn, TypeVar

from . import errors
from .compiled import CompiledPlugin
from .engines import api
from .host import logs
from .host.functions import HOST_FN_REGISTRY, Function
from .host.variables import Vars, merge_config
from .instance import PluginInstance
from .limits import Limits
from .sources import Source
from .wasm import FuncType, ValueType
from .worker import Worker

T = TypeVar("T")

CREATE_PREFIX = "Unable to create Extism plugin: "
"""How the reference runtime begins the text of everything that goes wrong between compiling and the first call."""

_START = "_start"
_TRAP_STATUS = 134


class Plugin:
    """A plugin that can be called. Use it in a ``with`` statement, or call :meth:`close`.

    Calls from several threads wait for each other. A call from a host function of the same plugin raises
    ``PluginBusyError``; calling another plugin there is fine.
    """

    def __init__(
        self,
        plugin: Source | CompiledPlugin,
        wasi: bool = False,
        config: Mapping[str, str | None] | None = None,
        functions: Iterable[Function] | None = HOST_FN_REGISTRY,
        *,
        engine: str | api.Engine | None = None,
        limits: Limits | None = None,
        logger: logging.Logger | None = None,
        any_thread: bool = False,
        keep_vars: bool = False,
    ) -> None:
        """
        Args:
            plugin: A path, the content of a module or manifest, a mapping, or a ``CompiledPlugin`` (``wasi`` and
                ``functions`` are then that one's; ``engine`` and ``limits`` may not be given).
            wasi: Whether the plugin may use WASI. This version has none: a plugin that imports it is refused.
            config: What the plugin reads as config, on top of the manifest's; ``None`` for a value takes a key away.
            functions: Host functions; by default every one that was registered in this process so far.
            engine: Name of the engine; ``None`` for the default.
            limits: What the plugin may take.
            logger: Gets what the plugin logs; by default a logger of its own below ``extism_engines.guest``.
            any_thread: With an engine whose plugins belong to a thread, give this one a thread of its own, so that it
                can be called from any. A call then costs about 0.1 ms more.
            keep_vars: Keep variables when a call of ``_start`` makes the plugin begin anew.

        Raises:
            EngineNotFoundError, EngineUnavailableError: There is no such engine, or it cannot run here.
            ManifestError, SourceError: The manifest is faulty, or a module cannot be had.
            ModuleError: A module is malformed or invalid.
            LinkError: Imports are missing or do not fit.
            InstantiationError, TrapError: Instances cannot be made, or what runs at the start failed.
            UnsupportedFeatureError: Something is asked for that the engine, or this version, cannot do.
            TypeError: An argument is of the wrong type.
        """
        self._owns_compiled_plugin = not isinstance(plugin, CompiledPlugin)
        if isinstance(plugin, CompiledPlugin):
            if engine is not None or limits is not None:
                raise TypeError("a CompiledPlugin has its engine and limits already: give them to CompiledPlugin()")
            compiled = plugin
        else:
            compiled = CompiledPlugin(plugin, wasi, functions, engine=engine, limits=limits)
        self._id = uuid.uuid4()
        self.compiled_plugin: CompiledPlugin | None = compiled
        self._compiled = compiled
        self._config = merge_config(compiled.manifest.config, config)
        self._logger = logger or logs.plugin_logger(str(self._id))
        self._keep_vars = keep_vars
        self._vars = Vars(compiled.manifest.memory.max_var_bytes)
        self._limits = compiled.limits
        # Reentrant, so that a call from a host function is seen as such and does not wait for itself.
        self._lock = threading.RLock()
        self._calling = False
        self._closed = False
        self._exit_code: int | None = None
        self._entries: dict[str, api.Exchange] = {}
        self._must_begin_anew = False
        self._has_no_size_limits = self._limits.input_bytes is None and self._limits.output_bytes is None
        self._instance: PluginInstance | None = None
        bound = compiled.engine.capabilities.thread_bound
        self._worker = Worker(f"extism-engines {self._id}") if bound and any_thread else None
        self._owner = threading.get_ident() if bound and not any_thread else None
        if self._worker is not None:
            # A plugin that is forgotten without close() must not leave its thread behind.
            weakref.finalize(self, self._worker.stop)
        try:
            self._on_its_thread(self._begin_anew)
        except BaseException:
            self.close()
            raise

    # -- what is known about it ----------------------------------------------------------------------------

    @property
    def id(self) -> uuid.UUID:
        """A random identity, the same for the plugin's whole life."""
        return self._id

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""
        return self._compiled.engine.name

    @property
    def exports(self) -> tuple[str, ...]:
        """Names that :meth:`call` takes, in the module's order."""
        return tuple(name for name in self._main_exports() if self.function_exists(name))

    @property
    def vars(self) -> MutableMapping[str, bytes]:
        """The plugin's variables: reading and writing them is seen by the plugin, within its limit."""
        return self._vars

    @property
    def config(self) -> Mapping[str, str]:
        """The plugin's config, as it reads it."""
        return MappingProxyType(self._config)

    @property
    def exit_code(self) -> int | None:
        """Status of the last call, 0 for success; ``None`` before the first, and after one that ended without any."""
        return self._exit_code

    def function_exists(self, name: str) -> bool:
        """Whether the plugin exports a function without parameters and with no result or one ``i32``."""
        type = self._main_exports().get(name)
        return isinstance(type, FuncType) and not type.params and type.results in ((), (ValueType.I32,))

    def _main_exports(self) -> Mapping[str, Any]:
        if self._closed:
            raise errors.PluginClosedError("the plugin is closed")
        return self._compiled.main.exports

    # -- calling -------------------------------------------------------------------------------------------

    def call(
        self,
        function_name: str,
        data: str | bytes | bytearray | memoryview = b"",
        parse: Callable[[bytes], Any] | None = None,
        host_context: Any = None,
    ) -> Any:
        """Calls an export.

        Args:
            function_name: Name of the export.
            data: The input, as bytes or as text in UTF-8.
            parse: Makes the result of the output's bytes; its exceptions come out as they are.
            host_context: Any object; host functions get it from ``CurrentPlugin.host_context()``.

        Returns:
            What ``parse`` gives; the output as ``bytes`` without it.

        Raises:
            FunctionNotFoundError: There is no such export.
            GuestError: The plugin set an error text, or returned a status other than 0.
            TrapError: It trapped.
            HostFunctionError: A host function raised; the exception is ``__cause__``.
            OutOfMemoryError: A limit on memory was reached.
            PluginBusyError: The call comes from inside a call of this plugin.
            WrongThreadError: The plugin belongs to another thread.
            PluginClosedError: The plugin is closed.
            TypeError: The input is neither bytes nor text.
        """
        if type(data) is not bytes:
            data = _input_bytes(data)
        if self._worker is None:
            output = self._call(function_name, data, host_context)
        else:
            output = self._worker.run(lambda: self._call(function_name, data, host_context))
        return output if parse is None else parse(output)

    def _call(self, name: str, data: bytes, host_context: Any) -> bytes:
        """One call, on the plugin's thread. This is the hot path: what is rare is done elsewhere."""
        with self._lock:
            if self._calling:
                self._refuse_inside_call()
            self._calling = True
            try:
                if self._owner is not None:
                    self._check_thread(name)
                exchange = self._entries.get(name) or self._prepare(name)
                if self._has_no_size_limits and host_context is None:
                    output = exchange(data)
                else:
                    output = self._exchange_within_limits(exchange, data, host_context)
                if output is None:
                    output = self._guest_failure()
                self._exit_code = 0
                return output
            except errors.Error as error:
                # Mostly the same error; where another takes its place, that one's cause is set.
                raise self._explain(error, name)  # noqa: B904
            except BaseException:
                self._exit_code = None
                raise
            finally:
                self._calling = False

    def _exchange_within_limits(self, exchange: api.Exchange, data: bytes, host_context: Any) -> bytes | None:
        instance, limits = self._instance, self._limits
        assert instance is not None
        if limits.input_bytes is not None and len(data) > limits.input_bytes:
            raise errors.CallError(f"the input has {len(data)} bytes; {limits.input_bytes} are allowed", exit_code=-1)
        instance.host_context = host_context
        try:
            output = exchange(data)
        finally:
            instance.host_context = None
        if output is not None and limits.output_bytes is not None and len(output) > limits.output_bytes:
            raise errors.CallError(
                f"the output has {len(output)} bytes; {limits.output_bytes} are allowed", exit_code=-1
            )
        return output

    def _prepare(self, name: str) -> api.Exchange:
        """The exchange for an export that is called for the first time since the plugin began."""
        if self._closed:
            raise errors.PluginClosedError("the plugin is closed")
        if self._must_begin_anew:
            self._drop_instance()
        if self._instance is None:
            self._begin_anew()
        instance = self._instance
        assert instance is not None
        try:
            instance.initialise()
        except BaseException:
            # A half initialised guest is not called; the next call begins anew.
            self._must_begin_anew = True
            raise
        exchange = instance.prepare_entry(name)
        if name == _START:
            return self._last_of_its_instance(exchange)
        self._entries[name] = exchange
        return exchange

    def _last_of_its_instance(self, exchange: api.Exchange) -> api.Exchange:
        """A program has run when ``_start`` returns: the call after it finds fresh instances."""

        def last(data: bytes) -> bytes | None:
            self._entries.clear()
            self._must_begin_anew = True
            try:
                return exchange(data)
            finally:
                if not self._keep_vars:
                    self._vars.clear()

        return last

    def _guest_failure(self) -> bytes:
        """Decides a call that returned but is no plain success (section 5.4): raises, or gives the output."""
        assert self._instance is not None
        kernel = self._instance.kernel
        status, text = kernel.status, kernel.error
        if text is not None:
            raise errors.GuestError(_error_text(text), exit_code=_to_exit_code(status))
        if status:
            code = _to_exit_code(status)
            raise errors.GuestError(f"Error code: {code}", exit_code=code)
        return kernel.output

    def _explain(self, error: errors.Error, name: str) -> errors.Error:
        """Gives an error what only this room knows. An error text that the guest had set goes before a trap."""
        if isinstance(error, errors.EngineFailureError):
            # Nobody knows what state it left: the next call finds fresh instances.
            self._entries.clear()
            self._must_begin_anew = True
        if isinstance(error, errors.TrapError) and self._instance is not None:
            kernel = self._instance.kernel
            text = kernel.error
            replaced: errors.Error | None = None
            if text is not None:
                replaced = errors.GuestError(_error_text(text), exit_code=-1)
            elif kernel.ran_out_of_memory:
                replaced = errors.OutOfMemoryError("oom", exit_code=-1)
            if replaced is not None:
                replaced.__cause__ = error
                error = replaced
            error.add_context(exit_code=_TRAP_STATUS)
        error.add_context(plugin=str(self._id), function=name, engine=self.engine)
        self._exit_code = error.exit_code
        return error

    def _check_thread(self, what: str) -> None:
        if self._owner is not None and self._owner != threading.get_ident():
            raise errors.WrongThreadError(
                f"with the engine {self.engine} a plugin belongs to the thread that made it; "
                "make one per thread, or give it a thread of its own with any_thread=True",
                plugin=str(self._id),
                function=what,
                engine=self.engine,
            )

    # -- life ----------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begins anew: fresh instances, no variables, as if just made. Config and id stay.

        Raises:
            PluginBusyError: From a host function of this plugin.
            PluginClosedError: The plugin is closed.
            WrongThreadError: The plugin belongs to another thread.
        """
        self._on_its_thread(self._reset)

    def _reset(self) -> None:
        with self._lock:
            if self._calling:
                self._refuse_inside_call()
            if self._closed:
                raise errors.PluginClosedError("the plugin is closed")
            self._check_thread("reset")
            self._drop_instance()
            self._vars.clear()
            self._begin_anew()

    def close(self) -> None:
        """Frees everything. Twice is fine; any other use afterwards raises ``PluginClosedError``.

        Raises:
            PluginBusyError: From a host function of this plugin.
        """
        if self._worker is None:
            self._close()
        else:
            with contextlib.suppress(errors.PluginClosedError):  # somebody else has closed it meanwhile
                self._worker.run(self._close)
            self._worker.stop()

    def _close(self) -> None:
        with self._lock:
            if self._calling:
                self._refuse_inside_call()
            self._closed = True
            self._drop_instance()
            if self._owns_compiled_plugin:
                self.compiled_plugin = None

    def cancel_handle(self) -> NoReturn:
        """Stopping a running call from another thread, in the official SDK.

        Raises:
            UnsupportedFeatureError: Always: this version cannot stop a running plugin.
        """
        raise errors.UnsupportedFeatureError("cancel_handle: this version cannot stop a running plugin")

    def __enter__(self) -> Plugin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Plugin {self._id} on {self.engine}{', closed' if self._closed else ''}>"

    def _begin_anew(self) -> None:
        """Makes the instances."""
        try:
            self._instance = PluginInstance(self._compiled, self._vars, self._config, self._logger, str(self._id))
        except errors.Error as error:
            if isinstance(error, (errors.LinkError, errors.InstantiationError, errors.TrapError)):
                error.args = (f"{CREATE_PREFIX}{error}",)
            error.add_context(plugin=str(self._id), engine=self.engine)
            raise

    def _drop_instance(self) -> None:
        self._entries.clear()
        self._must_begin_anew = False
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.close()

    def _refuse_inside_call(self) -> None:
        """Refuses what comes from inside a call of this plugin. Called when one is said to be running, which may be
        wrong: a signal handler that raises at the wrong moment makes CPython 3.10 skip a ``finally``, so the stack is
        asked."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code is Plugin._call.__code__ and frame.f_locals.get("self") is self:
                raise errors.PluginBusyError(
                    "cannot make reentrant calls into plugin", plugin=str(self._id), engine=self.engine
                )
            frame = frame.f_back
        self._calling = False

    def _on_its_thread(self, function: Callable[[], T]) -> T:
        return function() if self._worker is None else self._worker.run(function)


def _input_bytes(data: object) -> bytes:
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"the input must be str or bytes, not {type(data).__name__}")


def _error_text(text: bytes) -> str:
    """A guest's error text: up to a NUL, as the reference runtime hands it over; what is not UTF-8 is replaced."""
    return text.partition(b"\0")[0].decode("utf-8", "replace")


def _to_exit_code(status: int) -> int:
    """A status as the reference runtime returns it: 32 bits, signed."""
    return ((status + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
