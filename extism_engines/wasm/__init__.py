"""Reading and rewriting WebAssembly binaries. Knows nothing of engines, and nothing of Extism."""

from __future__ import annotations

from .reader import ModuleSummary, is_wasm, read_function_names, read_module
from .types import (
    ExportType,
    ExternType,
    FuncType,
    GlobalType,
    ImportType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValueType,
)

__all__ = [
    "ExportType",
    "ExternType",
    "FuncType",
    "GlobalType",
    "ImportType",
    "Limits",
    "MemoryType",
    "ModuleSummary",
    "TableType",
    "TagType",
    "ValueType",
    "is_wasm",
    "read_function_names",
    "read_module",
]
