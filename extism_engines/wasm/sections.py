"""The outermost layer of a binary: the header, and sections in their order."""

from __future__ import annotations

import enum

import attrs

from ..errors import MalformedModuleError
from .binary import Cursor, malformed

MAGIC = b"\0asm"
MODULE_HEADER = MAGIC + b"\x01\0\0\0"
COMPONENT_HEADER = MAGIC + b"\x0d\0\x01\0"


class SectionId(enum.IntEnum):
    """What a section holds. Members come in the order that the specification prescribes."""

    CUSTOM = 0
    TYPE = 1
    IMPORT = 2
    FUNCTION = 3
    TABLE = 4
    MEMORY = 5
    TAG = 13
    GLOBAL = 6
    EXPORT = 7
    START = 8
    ELEMENT = 9
    DATA_COUNT = 12
    CODE = 10
    DATA = 11


SECTION_ORDER = {section: place for place, section in enumerate(SectionId)}
"""Place of each section in a module; custom sections may be anywhere."""


@attrs.frozen
class Section:
    """One section.

    Attributes:
        id: What it holds.
        offset: Where it begins in the module, with its id byte.
        start: Where its content begins; for custom sections the content after the name.
        end: Where it ends.
        name: Of a custom section.
    """

    id: SectionId
    offset: int
    start: int
    end: int
    name: str = ""

    def cursor(self, wasm: bytes) -> Cursor:
        """Reads the content."""
        return Cursor(wasm, self.start, self.end)


def is_wasm(data: bytes) -> bool:
    """Whether bytes begin as WebAssembly binaries do (modules and components)."""
    return data[:4] == MAGIC


def split_sections(wasm: bytes) -> tuple[Section, ...]:
    """The sections of a module, in the order of the file.

    Raises:
        MalformedModuleError: No module's header, a section past the end, twice, out of order or unknown.
    """
    _check_header(wasm)
    cursor = Cursor(wasm, len(MODULE_HEADER))
    sections: list[Section] = []
    place = 0
    while not cursor.at_end:
        section = _read_section(cursor)
        if section.id is not SectionId.CUSTOM:
            if SECTION_ORDER[section.id] <= place:
                raise malformed(f"the {section.id.name.lower()} section is out of order", section.offset)
            place = SECTION_ORDER[section.id]
        sections.append(section)
    return tuple(sections)


def _check_header(wasm: bytes) -> None:
    header = wasm[:8]
    if header == MODULE_HEADER:
        return
    if header == COMPONENT_HEADER:
        raise MalformedModuleError("expected a WebAssembly module but was given a WebAssembly component")
    if not header:
        raise MalformedModuleError("expected a WebAssembly module but was given no bytes")
    if not is_wasm(wasm):
        raise malformed("expected a WebAssembly module: magic header not detected", 0)
    if len(header) < 8:
        raise malformed("unexpected end", len(header))
    raise malformed(f"unknown binary version {header[4:].hex(' ')}", 4)


def _read_section(cursor: Cursor) -> Section:
    offset = cursor.pos
    number = cursor.byte()
    size = cursor.u32()
    if size > cursor.remaining:
        raise malformed(f"a section of {size} bytes reaches past the end", offset)
    if number not in SectionId._value2member_map_:
        raise malformed(f"unknown section {number}", offset)
    start, end = cursor.pos, cursor.pos + size
    name = ""
    if number == SectionId.CUSTOM:
        inside = Cursor(cursor.data, start, end)
        name = inside.name()
        start = inside.pos
    cursor.pos = end
    return Section(SectionId(number), offset, start, end, name)
