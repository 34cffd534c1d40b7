"""Reading a module: what it declares, without a look at its code.

Safe on any bytes: the outcome is a :class:`ModuleSummary` or a
:class:`~extism_engines.errors.MalformedModuleError` that says what is wrong at which offset. Whether a module that
decodes also *validates* is for the engine to say.
"""

from __future__ import annotations

import attrs

from ..errors import MalformedModuleError
from .binary import Cursor, malformed
from .code import skip_constant_expression
from .declarations import DeclarationDecoder, DefinedMemory, DefinedType
from .sections import Section, SectionId, is_wasm, split_sections
from .types import ExportType, ExternType, FuncType, GlobalType, ImportType, TableType, TagType

__all__ = ["ModuleSummary", "is_wasm", "read_function_names", "read_module"]


@attrs.frozen
class ModuleSummary:
    """What a module declares.

    Attributes:
        imports: In order.
        exports: In order.
        start: Index of the start function.
        custom_sections: Names, in order, repeated ones too.
        types: What each type index stands for.
        functions: Type index of each function that the module defines.
        memories: Those that the module defines.
        tables: Those that the module defines.
        globals: Those that the module defines.
        tags: Those that the module defines.
        sections: All of them, in the order of the file.
        proposals: Names of the proposals that the declarations rely on; the code may need more
            (:func:`extism_engines.wasm.proposals.needed_proposals`).
    """

    imports: tuple[ImportType, ...]
    exports: tuple[ExportType, ...]
    start: int | None
    types: tuple[DefinedType, ...] = attrs.field(repr=False)
    functions: tuple[int, ...] = attrs.field(repr=False)
    memories: tuple[DefinedMemory, ...]
    tables: tuple[TableType, ...]
    globals: tuple[GlobalType, ...] = attrs.field(repr=False)
    tags: tuple[TagType, ...]
    sections: tuple[Section, ...] = attrs.field(repr=False)
    proposals: frozenset[str]

    @property
    def custom_sections(self) -> tuple[str, ...]:
        """Names of the custom sections, in order, repeated ones too."""
        return tuple(section.name for section in self.sections if section.id is SectionId.CUSTOM)

    @property
    def function_count(self) -> int:
        """How many functions the module defines."""
        return len(self.functions)

    def imported(self, kind: type[ExternType]) -> tuple[ImportType, ...]:
        """The imports of one kind (:class:`FuncType`, :class:`GlobalType` …), in order."""
        return tuple(entry for entry in self.imports if isinstance(entry.type, kind))

    def section(self, section_id: SectionId) -> Section | None:
        """The section of that id, if the module has it; not for custom sections."""
        return next((section for section in self.sections if section.id is section_id), None)

    def function_type(self, index: int) -> FuncType:
        """Type of a function, imported or defined, by its index."""
        imported = self.imported(FuncType)
        found = imported[index].type if index < len(imported) else self.types[self.functions[index - len(imported)]]
        assert isinstance(found, FuncType)  # checked while reading
        return found


def read_module(wasm: bytes) -> ModuleSummary:
    """Reads everything that a module declares. Takes milliseconds for megabytes: code and data are not looked at.

    Raises:
        MalformedModuleError: The bytes are not a well-formed WebAssembly module, or declare more than engines accept
            (:data:`extism_engines.wasm.declarations.GREATEST_COUNTS`).
    """
    return _ModuleReader(wasm).read()


def read_function_names(wasm: bytes) -> dict[int, str]:
    """Names of functions by index, from the name section; as many as can be read of it, none without one."""
    names: dict[int, str] = {}
    try:
        for section in split_sections(wasm):
            if section.id is SectionId.CUSTOM and section.name == "name":
                _read_name_map(section.cursor(wasm), names)
    except MalformedModuleError:
        # Names are a convenience for messages: those read so far are still right.
        pass
    return names


_FUNCTION_NAMES = 1


def _read_name_map(cursor: Cursor, names: dict[int, str]) -> None:
    while not cursor.at_end:
        kind = cursor.byte()
        size = cursor.u32()
        if kind == _FUNCTION_NAMES:
            inside = Cursor(cursor.data, cursor.pos, min(cursor.pos + size, cursor.end))
            for _ in range(inside.u32()):
                index = inside.u32()
                names[index] = inside.name()
        cursor.skip(size)


_IMPORT_KINDS = {0: "function", 1: "table", 2: "memory", 3: "global", 4: "tag"}
_COUNTED_KINDS = {0: "functions", 1: "tables", 2: "memories", 3: "globals", 4: "tags"}
_SEGMENTS = {SectionId.ELEMENT: "element segments", SectionId.DATA: "data segments"}


class _ModuleReader:
    """Reads the sections in their order, each of which may refer to what came before."""

    def __init__(self, wasm: bytes) -> None:
        self.wasm = wasm
        self.proposals: set[str] = set()
        self.types: tuple[DefinedType, ...] = ()
        self.imports: list[ImportType] = []
        self.functions: list[int] = []
        self.memories: list[DefinedMemory] = []
        self.tables: list[TableType] = []
        self.globals: list[GlobalType] = []
        self.tags: list[TagType] = []
        self.exports: list[ExportType] = []
        self.start: int | None = None
        # One list per kind of what can be exported, imported ones first, as indices count.
        self.externs: dict[int, list[ExternType]] = {kind: [] for kind in _IMPORT_KINDS}
        self.bodies = 0

    def read(self) -> ModuleSummary:
        readers = {
            SectionId.TYPE: self._read_types,
            SectionId.IMPORT: self._read_imports,
            SectionId.FUNCTION: self._read_functions,
            SectionId.TABLE: self._read_tables,
            SectionId.MEMORY: self._read_memories,
            SectionId.TAG: self._read_tags,
            SectionId.GLOBAL: self._read_globals,
            SectionId.EXPORT: self._read_exports,
            SectionId.START: self._read_start,
        }
        sections = split_sections(self.wasm)
        for section in sections:
            cursor = section.cursor(self.wasm)
            reader = readers.get(section.id)
            if reader is not None:
                reader(DeclarationDecoder(cursor, self.proposals))
                if not cursor.at_end:
                    raise cursor.fail(f"{cursor.remaining} bytes too many in the {section.id.name.lower()} section")
            elif section.id in _SEGMENTS:
                DeclarationDecoder(cursor, self.proposals).count(_SEGMENTS[section.id])
            elif section.id is SectionId.CODE:
                self.bodies = cursor.u32()
            elif section.id is SectionId.DATA_COUNT:
                self.proposals.add("bulk-memory")
        if self.bodies != len(self.functions):
            raise malformed(
                f"the module declares {len(self.functions)} functions and has {self.bodies} bodies", len(self.wasm)
            )
        self._note_counts()
        return ModuleSummary(
            imports=tuple(self.imports),
            exports=tuple(self.exports),
            start=self.start,
            types=self.types,
            functions=tuple(self.functions),
            memories=tuple(self.memories),
            tables=tuple(self.tables),
            globals=tuple(self.globals),
            tags=tuple(self.tags),
            sections=sections,
            proposals=frozenset(self.proposals),
        )

    def _read_types(self, decoder: DeclarationDecoder) -> None:
        self.types = decoder.type_section()

    def _read_imports(self, decoder: DeclarationDecoder) -> None:
        cursor = decoder.cursor
        for _ in range(decoder.count("imports")):
            module, name = cursor.name(), cursor.name()
            at = cursor.pos
            kind = cursor.byte()
            if kind not in _IMPORT_KINDS:
                raise cursor.fail(f"unknown kind of import {kind:#04x}", at)
            extern = self._read_extern_type(decoder, kind)
            if isinstance(extern, GlobalType) and extern.mutable:
                self.proposals.add("mutable-globals")
            self.externs[kind].append(extern)
            decoder.refuse_excess(_COUNTED_KINDS[kind], len(self.externs[kind]), at)
            self.imports.append(ImportType(module, name, extern))

    def _read_extern_type(self, decoder: DeclarationDecoder, kind: int) -> ExternType:
        if kind == 0:
            return decoder.func_type_index(self.types)
        if kind == 1:
            return decoder.table_type()
        if kind == 2:
            return decoder.memory_type().type
        if kind == 3:
            return decoder.global_type()
        self.proposals.add("exceptions")
        return decoder.tag_type(self.types)

    def _read_functions(self, decoder: DeclarationDecoder) -> None:
        cursor = decoder.cursor
        externs = self.externs[0]
        types = self.types
        for _ in range(decoder.count("functions", len(externs))):
            at = cursor.pos
            index = cursor.u32()
            type_ = types[index] if index < len(types) else None
            if not isinstance(type_, FuncType):
                raise cursor.fail(f"type {index} is not a function type of this module", at)
            self.functions.append(index)
            externs.append(type_)

    def _read_tables(self, decoder: DeclarationDecoder) -> None:
        cursor = decoder.cursor
        for _ in range(decoder.count("tables", len(self.externs[1]))):
            has_value = decoder.table_has_value()
            table = decoder.table_type()
            if has_value:
                skip_constant_expression(cursor)
            self.tables.append(table)
            self.externs[1].append(table)

    def _read_memories(self, decoder: DeclarationDecoder) -> None:
        for _ in range(decoder.count("memories", len(self.externs[2]))):
            memory = decoder.memory_type()
            self.memories.append(memory)
            self.externs[2].append(memory.type)

    def _read_tags(self, decoder: DeclarationDecoder) -> None:
        self.proposals.add("exceptions")
        for _ in range(decoder.count("tags", len(self.externs[4]))):
            tag = decoder.tag_type(self.types)
            self.tags.append(tag)
            self.externs[4].append(tag)

    def _read_globals(self, decoder: DeclarationDecoder) -> None:
        for _ in range(decoder.count("globals", len(self.externs[3]))):
            global_type = decoder.global_type()
            skip_constant_expression(decoder.cursor)
            self.globals.append(global_type)
            self.externs[3].append(global_type)

    def _read_exports(self, decoder: DeclarationDecoder) -> None:
        cursor = decoder.cursor
        seen: set[str] = set()
        for _ in range(decoder.count("exports")):
            at = cursor.pos
            name = cursor.name()
            if name in seen:
                raise cursor.fail(f"duplicate export name {name!r}", at)
            seen.add(name)
            at = cursor.pos
            kind = cursor.byte()
            if kind not in _IMPORT_KINDS:
                raise cursor.fail(f"unknown kind of export {kind:#04x}", at)
            index = cursor.u32()
            externs = self.externs[kind]
            if index >= len(externs):
                raise cursor.fail(f"export {name!r} names {_IMPORT_KINDS[kind]} {index}, which does not exist", at)
            extern = externs[index]
            if isinstance(extern, GlobalType) and extern.mutable:
                self.proposals.add("mutable-globals")
            self.exports.append(ExportType(name, extern))

    def _read_start(self, decoder: DeclarationDecoder) -> None:
        at = decoder.cursor.pos
        self.start = decoder.cursor.u32()
        if self.start >= len(self.externs[0]):
            raise decoder.cursor.fail(f"the start function {self.start} does not exist", at)

    def _note_counts(self) -> None:
        if len(self.externs[2]) > 1:
            self.proposals.add("multi-memory")
        if len(self.externs[1]) > 1:
            self.proposals.add("reference-types")
