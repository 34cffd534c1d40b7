"""The submodule of the same name in the official SDK: what programs import from ``extism.extism`` is here."""

from __future__ import annotations

from ._version import extism_version
from .compiled import CompiledPlugin
from .errors import Error
from .host.codecs import Codec, Json, Pickle
from .host.current import CurrentPlugin
from .host.functions import HOST_FN_REGISTRY, ExplicitFunction, Function, TypeInferredFunction, host_fn
from .host.logs import CustomLogger, set_log_custom, set_log_file
from .host.memory import Memory
from .host.values import Val, ValType
from .plugin import Plugin

__all__ = [
    "HOST_FN_REGISTRY",
    "Codec",
    "CompiledPlugin",
    "CurrentPlugin",
    "CustomLogger",
    "Error",
    "ExplicitFunction",
    "Function",
    "Json",
    "Memory",
    "Pickle",
    "Plugin",
    "TypeInferredFunction",
    "Val",
    "ValType",
    "extism_version",
    "host_fn",
    "set_log_custom",
    "set_log_file",
]
