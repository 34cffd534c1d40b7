"""Reading and rewriting WebAssembly binaries. Knows nothing of engines, and nothing of Extism.

What lies where, from the bytes up:

- :mod:`.binary` numbers, names, vectors; :mod:`.sections` the outermost layer; :mod:`.declarations` types and limits;
  :mod:`.opcodes` the table of instructions; :mod:`.code` the walker over them; :mod:`.segments` constant expressions.
- :mod:`.reader` says what a module declares, :mod:`.proposals` what it needs of an engine. Values are in :mod:`.types`.
- :mod:`.rewriter` makes a module ready for an engine: start function, sizes, and the stack budget (:mod:`.budget`, over
  the frames that :mod:`.stack` estimates from the :mod:`.shapes` of functions), written by :mod:`.edits`.

To put another kind of check into functions: choose its stops, loop over :func:`.code.walk`, and collect
:class:`.edits.Edit` values, as :mod:`.budget` does.
"""

from __future__ import annotations

from .proposals import PROPOSALS, needed_proposals
from .reader import ModuleSummary, is_wasm, read_function_names, read_module
from .rewriter import (
    RESERVED_MODULE,
    RESERVED_PREFIX,
    STACK_IMPORT,
    STACK_TYPE,
    START_EXPORT,
    Needs,
    Prepared,
    prepare,
)
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
    "PROPOSALS",
    "RESERVED_MODULE",
    "RESERVED_PREFIX",
    "STACK_IMPORT",
    "STACK_TYPE",
    "START_EXPORT",
    "ExportType",
    "ExternType",
    "FuncType",
    "GlobalType",
    "ImportType",
    "Limits",
    "MemoryType",
    "ModuleSummary",
    "Needs",
    "Prepared",
    "TableType",
    "TagType",
    "ValueType",
    "is_wasm",
    "needed_proposals",
    "prepare",
    "read_function_names",
    "read_module",
]
