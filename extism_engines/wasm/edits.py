"""Changing a module by a list of edits to its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from .binary import encode_section, encode_unsigned
from .sections import MODULE_HEADER, SECTION_ORDER, Section, SectionId


class Edit(NamedTuple):
    """Bytes between two offsets, and what takes their place. Equal offsets insert. (Modules have a hundred thousand of
    these, hence no attrs.)"""

    start: int
    end: int
    replacement: bytes


def apply_edits(data: bytes, start: int, end: int, edits: Iterable[Edit]) -> bytes:
    """The bytes between two offsets with some edits made. Edits do not overlap; insertions at the same offset come out
    in the order given."""
    parts: list[bytes] = []
    position = start
    for edit_start, edit_end, replacement in sorted(edits, key=attrgetter("start")):
        parts += (data[position:edit_start], replacement)
        position = edit_end
    parts.append(data[position:end])
    return b"".join(parts)


class ModuleEditor:
    """Collects what is to change in a module, then assembles it."""

    def __init__(self, wasm: bytes, sections: Iterable[Section]) -> None:
        """Args: the module and its sections."""
        self._wasm = wasm
        self._sections = tuple(sections)
        self._edits: list[Edit] = []
        self._appended: dict[SectionId, list[bytes]] = {}
        self._replaced: dict[SectionId, bytes] = {}
        self._dropped: set[int] = set()

    def replace(self, edit: Edit) -> None:
        """Makes an edit inside a section."""
        self._edits.append(edit)

    def replace_all(self, edits: Iterable[Edit]) -> None:
        """Makes several."""
        self._edits.extend(edits)

    def append(self, section_id: SectionId, item: bytes) -> None:
        """Adds an item to the vector that a section is, which is made if need be."""
        self._appended.setdefault(section_id, []).append(item)

    def replace_section(self, section_id: SectionId, content: bytes) -> None:
        """Gives a section new content."""
        self._replaced[section_id] = content

    def drop(self, section: Section) -> None:
        """Leaves a section out."""
        self._dropped.add(section.offset)

    @property
    def changed(self) -> bool:
        """Whether anything is to change."""
        return bool(self._edits or self._appended or self._replaced or self._dropped)

    def assemble(self) -> bytes:
        """The module with all changes; sections without any are copied as they are."""
        parts = [MODULE_HEADER]
        missing = self._new_sections()
        for section in self._sections:
            if section.id is not SectionId.CUSTOM:
                while missing and SECTION_ORDER[next(iter(missing))] < SECTION_ORDER[section.id]:
                    parts.append(missing.pop(next(iter(missing))))
            if section.offset not in self._dropped:
                parts.append(self._assemble_section(section))
        parts += missing.values()
        return b"".join(parts)

    def _new_sections(self) -> dict[SectionId, bytes]:
        """Sections that must be made, in the order of modules."""
        present = {section.id for section in self._sections}
        return {
            section_id: encode_section(section_id, encode_unsigned(len(items)) + b"".join(items))
            for section_id, items in sorted(self._appended.items(), key=lambda entry: SECTION_ORDER[entry[0]])
            if section_id not in present
        }

    def _assemble_section(self, section: Section) -> bytes:
        wasm = self._wasm
        if section.id in self._replaced:
            return encode_section(section.id, self._replaced[section.id])
        edits = [edit for edit in self._edits if section.start <= edit.start < section.end]
        items = self._appended.get(section.id, [])
        if not edits and not items:
            return wasm[section.offset : section.end]
        cursor = section.cursor(wasm)
        count = cursor.u32()
        content = apply_edits(wasm, cursor.pos, section.end, edits)
        return encode_section(section.id, encode_unsigned(count + len(items)) + content + b"".join(items))
