"""Changing a module by a list of edits to its bytes."""

from __future__ import annotations

from bisect import bisect_left
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
        wasm = self._wasm
        edits = sorted(self._edits, key=attrgetter("start"))
        starts = [edit.start for edit in edits]
        parts = [MODULE_HEADER]
        missing = self._new_sections()
        # Unchanged sections wait here to be copied together: a module may have a hundred thousand of them.
        run_start = run_end = len(MODULE_HEADER)
        for section in self._sections:
            before = _take_before(missing, section)
            inside = edits[bisect_left(starts, section.start) : bisect_left(starts, section.end)]
            changed = inside or self._changes(section)
            if before or changed:
                parts += (wasm[run_start:run_end], *before)
                run_start = section.offset
                if changed:
                    parts.append(self._assemble_section(section, inside))
                    run_start = section.end
            run_end = section.end
        parts += (wasm[run_start:run_end], *missing.values())
        return b"".join(parts)

    def _changes(self, section: Section) -> bool:
        """Whether a section changes by anything else than edits inside."""
        return section.offset in self._dropped or section.id in self._replaced or section.id in self._appended

    def _new_sections(self) -> dict[SectionId, bytes]:
        """Sections that must be made, in the order of modules."""
        present = {section.id for section in self._sections}
        return {
            section_id: encode_section(section_id, encode_unsigned(len(items)) + b"".join(items))
            for section_id, items in sorted(self._appended.items(), key=lambda entry: SECTION_ORDER[entry[0]])
            if section_id not in present
        }

    def _assemble_section(self, section: Section, edits: list[Edit]) -> bytes:
        if section.offset in self._dropped:
            return b""
        if section.id in self._replaced:
            return encode_section(section.id, self._replaced[section.id])
        items = self._appended.get(section.id, [])
        cursor = section.cursor(self._wasm)
        count = cursor.u32()
        content = apply_edits(self._wasm, cursor.pos, section.end, edits)
        return encode_section(section.id, encode_unsigned(count + len(items)) + content + b"".join(items))


def _take_before(missing: dict[SectionId, bytes], section: Section) -> list[bytes]:
    """Takes out the new sections that belong before a section; custom sections may be anywhere."""
    if section.id is SectionId.CUSTOM:
        return []
    place = SECTION_ORDER[section.id]
    return [missing.pop(new) for new in tuple(missing) if SECTION_ORDER[new] < place]
