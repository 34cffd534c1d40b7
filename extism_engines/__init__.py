"""Extism plugins from Python on the WebAssembly engine of your choice.

Programs written for the official SDK run with ``import extism_engines as extism``. What plugins and callers observe is
described in ``docs/extism-behaviour.md`` of the source distribution; section numbers in docstrings are that page's.
"""

from __future__ import annotations

from ._version import __version__, extism_version
from .compiled import CompiledPlugin
from .engines import EngineInfo, default_engine, engines, set_default_engine
from .errors import (
    CallError,
    CancelledError,
    EngineError,
    EngineFailureError,
    EngineNotFoundError,
    EngineUnavailableError,
    Error,
    ExtismError,
    Frame,
    FunctionNotFoundError,
    GuestError,
    HashMismatchError,
    HostFunctionError,
    HttpNotAllowedError,
    InstantiationError,
    InvalidModuleError,
    LinkError,
    MalformedModuleError,
    ManifestError,
    ModuleError,
    OutOfFuelError,
    OutOfMemoryError,
    PluginBusyError,
    PluginClosedError,
    PluginExit,
    PluginTimeoutError,
    SourceError,
    TrapError,
    TrapKind,
    UnsupportedFeatureError,
    WrongThreadError,
)
from .host.codecs import Codec, Handle, Json, Pickle
from .host.current import CurrentPlugin
from .host.functions import HOST_FN_REGISTRY, ExplicitFunction, Function, TypeInferredFunction, host_fn
from .host.logs import CustomLogger, set_log_custom, set_log_file
from .host.memory import Memory
from .host.values import Val, ValType
from .limits import Limits
from .manifest import Manifest, MemoryOptions, WasmSource
from .plugin import Plugin

__all__ = [
    "HOST_FN_REGISTRY",
    "CallError",
    "CancelledError",
    "Codec",
    "CompiledPlugin",
    "CurrentPlugin",
    "CustomLogger",
    "EngineError",
    "EngineFailureError",
    "EngineInfo",
    "EngineNotFoundError",
    "EngineUnavailableError",
    "Error",
    "ExplicitFunction",
    "ExtismError",
    "Frame",
    "Function",
    "FunctionNotFoundError",
    "GuestError",
    "Handle",
    "HashMismatchError",
    "HostFunctionError",
    "HttpNotAllowedError",
    "InstantiationError",
    "InvalidModuleError",
    "Json",
    "Limits",
    "LinkError",
    "MalformedModuleError",
    "Manifest",
    "ManifestError",
    "Memory",
    "MemoryOptions",
    "ModuleError",
    "OutOfFuelError",
    "OutOfMemoryError",
    "Pickle",
    "Plugin",
    "PluginBusyError",
    "PluginClosedError",
    "PluginExit",
    "PluginTimeoutError",
    "SourceError",
    "TrapError",
    "TrapKind",
    "TypeInferredFunction",
    "UnsupportedFeatureError",
    "Val",
    "ValType",
    "WasmSource",
    "WrongThreadError",
    "__version__",
    "default_engine",
    "engines",
    "extism_version",
    "host_fn",
    "set_default_engine",
    "set_log_custom",
    "set_log_file",
]
