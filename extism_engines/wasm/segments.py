"""Constant expressions, wherever a module has them: initial values of tables and globals, and segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from .binary import Cursor
from .code import skip_constant_expression
from .declarations import DeclarationDecoder
from .sections import Section, SectionId


@attrs.frozen
class Expression:
    """A constant expression: where it begins, and where it ends after its ``end`` instruction."""

    start: int
    end: int


def constant_expressions(wasm: bytes, section: Section, proposals: set[str]) -> Iterator[Expression]:
    """The constant expressions of a section, in order; none for sections that have none.

    Args:
        wasm: The module.
        section: One of its sections.
        proposals: Where to note proposals that the encoding of the section relies on.

    Raises:
        MalformedModuleError: The section is malformed.
    """
    scan = _SCANNERS.get(section.id)
    if scan is None:
        return
    cursor = section.cursor(wasm)
    decoder = DeclarationDecoder(cursor, proposals)
    for _ in range(cursor.count()):
        yield from scan(decoder)
    if not cursor.at_end:
        raise cursor.fail(f"{cursor.remaining} bytes too many in the {section.id.name.lower()} section")


def _expression(cursor: Cursor) -> Expression:
    start = cursor.pos
    skip_constant_expression(cursor)
    return Expression(start, cursor.pos)


def _scan_table(decoder: DeclarationDecoder) -> Iterator[Expression]:
    has_value = decoder.table_has_value()
    decoder.table_type()
    if has_value:
        yield _expression(decoder.cursor)


def _scan_global(decoder: DeclarationDecoder) -> Iterator[Expression]:
    decoder.global_type()
    yield _expression(decoder.cursor)


_NOT_ACTIVE, _EXPLICIT, _EXPRESSIONS = 0x01, 0x02, 0x04


def _scan_element(decoder: DeclarationDecoder) -> Iterator[Expression]:
    """One element segment. Flags: bit 0 passive or declarative; bit 1 table index, or declarative; bit 2 elements are
    expressions."""
    cursor = decoder.cursor
    at = cursor.pos
    flags = cursor.u32()
    if flags > 7:
        raise cursor.fail(f"malformed element segment flags {flags:#x}", at)
    if flags & _NOT_ACTIVE:
        decoder.proposals.add("reference-types" if flags & _EXPLICIT else "bulk-memory")
    else:
        if flags & _EXPLICIT and cursor.u32() != 0:
            decoder.proposals.add("reference-types")
        yield _expression(cursor)
    if flags & _EXPRESSIONS:
        decoder.proposals.add("bulk-memory")
    if flags & (_NOT_ACTIVE | _EXPLICIT):
        if flags & _EXPRESSIONS:
            decoder.reference_type()
        else:
            cursor.byte()  # the kind of the elements: functions
    for _ in range(cursor.count()):
        if flags & _EXPRESSIONS:
            yield _expression(cursor)
        else:
            cursor.u32()


def _scan_data(decoder: DeclarationDecoder) -> Iterator[Expression]:
    """One data segment. Flags: 0 active, 1 passive, 2 active with a memory index."""
    cursor = decoder.cursor
    at = cursor.pos
    flags = cursor.u32()
    if flags > 2:
        raise cursor.fail(f"malformed data segment flags {flags:#x}", at)
    if flags == _NOT_ACTIVE:
        decoder.proposals.add("bulk-memory")
    else:
        if flags & _EXPLICIT and cursor.u32() != 0:
            decoder.proposals.add("multi-memory")
        yield _expression(cursor)
    cursor.skip(cursor.u32())


_SCANNERS: dict[SectionId, Callable[[DeclarationDecoder], Iterator[Expression]]] = {
    SectionId.TABLE: _scan_table,
    SectionId.GLOBAL: _scan_global,
    SectionId.ELEMENT: _scan_element,
    SectionId.DATA: _scan_data,
}
