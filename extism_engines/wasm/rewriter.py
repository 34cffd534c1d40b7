"""Making a module ready for an engine: what the engine cannot do is written into the binary.

:func:`prepare` runs on bytes that the engine validated as they are. It must: an invalid module that names an index
which is added here would become valid, and reach what is hidden from it.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ..errors import InstantiationError, LinkError, OutOfMemoryError
from .binary import encode_name, encode_unsigned
from .budget import StackBudget
from .code import skip_constant_expression
from .declarations import PAGE_SIZE_LOG2, DeclarationDecoder, encode_limits
from .edits import Edit, ModuleEditor
from .opcodes import Op
from .reader import ModuleSummary, read_module
from .sections import Section, SectionId
from .segments import constant_expressions
from .types import GlobalType, Limits, ValueType

RESERVED_MODULE = "extism-engines"
"""Module name of the imports that are added; a plugin may not import from it."""

RESERVED_PREFIX = "extism-engines:"
"""How the names of added exports begin; a plugin may not export such names."""

STACK_IMPORT = (RESERVED_MODULE, "stack")
"""Module and name of the imported global that counts stack bytes."""

STACK_TYPE = GlobalType(ValueType.I32, mutable=True)
"""Type of that global."""

START_EXPORT = RESERVED_PREFIX + "start"
"""Name under which what was the start function is exported."""


@attrs.frozen
class Needs:
    """What a module must be rewritten for.

    Attributes:
        stack_budget: Count the stack bytes of calls in the imported global :data:`STACK_IMPORT`
            (:mod:`extism_engines.wasm.budget`).
        memory_pages: Greatest maximum, in pages of 64 KiB, of every memory that the module defines.
        table_elements: Greatest maximum of every table that the module defines.
        leaf_imports: Module and name of imports that are known to return without calling back into wasm; the stack
            budget does without them.
    """

    stack_budget: bool = False
    memory_pages: int | None = None
    table_elements: int | None = None
    leaf_imports: frozenset[tuple[str, str]] = frozenset()


@attrs.frozen
class Prepared:
    """A module that is ready to be compiled.

    Attributes:
        wasm: The binary; the very bytes that were given when nothing had to change.
        start_export: Name of the export that takes the place of the start function: no parameters, no results, to be
            called once after instantiation. ``None`` when the module had none.
        stack_reserve: Bytes of stack that must lie below a budget of 0, besides what host functions need; 0 when no
            stack is counted.
    """

    wasm: bytes = attrs.field(repr=False)
    start_export: str | None = None
    stack_reserve: int = 0


def prepare(wasm: bytes, needs: Needs) -> Prepared:
    """Rewrites a module.

    The start section always becomes the export :data:`START_EXPORT`, so that it runs when memory and host functions
    are there, and under the limits of a call. Everything else is done as ``needs`` says. Custom sections with offsets
    into code go when the code changes, and the name section goes when the stack is counted.

    Raises:
        MalformedModuleError: The bytes are not a WebAssembly module.
        LinkError: The module uses a name that is reserved.
        OutOfMemoryError: A memory wants more at once than ``memory_pages`` (``oom``).
        InstantiationError: A table wants more at once than ``table_elements``.
        UnsupportedFeatureError: The stack cannot be counted in this module.
    """
    summary = read_module(wasm)
    _refuse_reserved_names(summary)
    editor = ModuleEditor(wasm, summary.sections)
    start_export = _export_start(editor, summary)
    if needs.memory_pages is not None:
        _cap_memories(editor, wasm, summary, needs.memory_pages)
    if needs.table_elements is not None:
        _cap_tables(editor, wasm, summary, needs.table_elements)
    reserve = _count_stack(editor, wasm, summary, needs.leaf_imports) if needs.stack_budget else 0
    return Prepared(editor.assemble() if editor.changed else wasm, start_export, reserve)


def _refuse_reserved_names(summary: ModuleSummary) -> None:
    for entry in summary.imports:
        if entry.module == RESERVED_MODULE:
            raise LinkError(f"the import {entry.module!r} {entry.name!r} has a module name that is reserved")
    for export in summary.exports:
        if export.name.startswith(RESERVED_PREFIX):
            raise LinkError(f"the export {export.name!r} has a name that is reserved")


def _export_start(editor: ModuleEditor, summary: ModuleSummary) -> str | None:
    section = summary.section(SectionId.START)
    if summary.start is None or section is None:
        return None
    editor.drop(section)
    editor.append(SectionId.EXPORT, encode_name(START_EXPORT) + b"\0" + encode_unsigned(summary.start))
    return START_EXPORT


# -- sizes ---------------------------------------------------------------------------------------------


def _cap_memories(editor: ModuleEditor, wasm: bytes, summary: ModuleSummary, pages: int) -> None:
    section = summary.section(SectionId.MEMORY)
    if section is None:
        return
    cursor = section.cursor(wasm)
    decoder = DeclarationDecoder(cursor, set())
    for _ in range(cursor.count()):
        at = cursor.pos
        memory = decoder.memory_type()
        address_space = 1 << (64 if memory.type.memory64 else 32)
        cap = min(pages << PAGE_SIZE_LOG2, address_space) >> memory.page_size_log2
        limits = memory.type.limits
        if limits.minimum > cap:
            raise OutOfMemoryError("oom")
        if limits.maximum is None or limits.maximum > cap:
            capped = Limits(limits.minimum, cap)
            replacement = encode_limits(capped, memory.type.memory64, memory.type.shared, memory.page_size_log2)
            editor.replace(Edit(at, cursor.pos, replacement))


def _cap_tables(editor: ModuleEditor, wasm: bytes, summary: ModuleSummary, elements: int) -> None:
    section = summary.section(SectionId.TABLE)
    if section is None:
        return
    cursor = section.cursor(wasm)
    decoder = DeclarationDecoder(cursor, set())
    for _ in range(cursor.count()):
        has_value = decoder.table_has_value()
        decoder.reference_type()
        at = cursor.pos
        limits, table64 = decoder.table_limits()
        end = cursor.pos
        if has_value:
            skip_constant_expression(cursor)
        cap = min(elements, (1 << (64 if table64 else 32)) - 1)
        if limits.minimum > cap:
            raise InstantiationError(f"a table wants {limits.minimum} elements at once, and {elements} are the limit")
        if limits.maximum is None or limits.maximum > cap:
            editor.replace(Edit(at, end, encode_limits(Limits(limits.minimum, cap), table64)))


# -- the stack budget ----------------------------------------------------------------------------------


def _count_stack(
    editor: ModuleEditor, wasm: bytes, summary: ModuleSummary, leaf_imports: frozenset[tuple[str, str]]
) -> int:
    """Makes the functions count; gives the bytes that must lie below a budget of 0."""
    _drop_names(editor, summary)
    budget = StackBudget(wasm, summary, leaf_imports)
    code = budget.rewrite()
    if code is None:
        return budget.reserve
    editor.replace_section(SectionId.CODE, code)
    module, name = STACK_IMPORT
    editor.append(SectionId.IMPORT, encode_name(module) + encode_name(name) + bytes([_GLOBAL, _I32, _MUTABLE]))
    for section in summary.sections:
        if _holds_code_offsets(section):
            editor.drop(section)
        for expression in constant_expressions(wasm, section, set()):
            # There may be thousands, and nearly all are a constant.
            if wasm.find(Op.GLOBAL_GET, expression.start, expression.end) >= 0:
                editor.replace_all(budget.moved_globals(expression.start, expression.end))
    editor.replace_all(_moved_exports(wasm, summary))
    return budget.reserve


def _drop_names(editor: ModuleEditor, summary: ModuleSummary) -> None:
    """Leaves the name section out, whether or not any function has to count.

    An engine that needs the budget writes the name of the function into every frame of a trap's message, and nothing
    bounds names or frames but the module: a name of 20 KB and a deep recursion make gigabytes of text.
    """
    for section in summary.sections:
        if section.name == "name":
            editor.drop(section)


def _moved_exports(wasm: bytes, summary: ModuleSummary) -> Iterator[Edit]:
    """Exports of defined globals, whose indices have moved up by one."""
    section = summary.section(SectionId.EXPORT)
    if section is None:
        return
    first_defined = len(summary.imported(GlobalType))
    cursor = section.cursor(wasm)
    for _ in range(cursor.count()):
        cursor.name()
        kind = cursor.byte()
        at = cursor.pos
        index = cursor.u32()
        if kind == _GLOBAL and index >= first_defined:
            yield Edit(at, cursor.pos, encode_unsigned(index + 1))


def _holds_code_offsets(section: Section) -> bool:
    name = section.name
    return name == "linking" or name.startswith((".debug_", "metadata.code.", "reloc."))


_GLOBAL = 0x03
_I32 = 0x7F
_MUTABLE = 0x01
