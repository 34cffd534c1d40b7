"""Which extensions of WebAssembly a module needs.

Names are those of the feature list at webassembly.org (``multiValue`` is ``multi-value`` here, and so on).
"""

from __future__ import annotations

from .binary import Cursor
from .code import Stride, read_bodies, read_instruction, stride
from .declarations import DeclarationDecoder
from .opcodes import Immediate, Instruction, instruction_set
from .reader import read_module
from .sections import Section, SectionId
from .segments import constant_expressions

PROPOSALS = frozenset(
    {
        "bulk-memory",
        "custom-page-sizes",
        "exceptions",
        "extended-const",
        "function-references",
        "gc",
        "legacy-exceptions",
        "memory64",
        "multi-memory",
        "multi-value",
        "mutable-globals",
        "reference-types",
        "relaxed-simd",
        "saturating-float-to-int",
        "shared-memory",
        "sign-extension",
        "simd",
        "tail-call",
        "threads",
        "wide-arithmetic",
    }
)
"""Every name that :func:`needed_proposals` may give: those of webassembly.org, and ``shared-memory`` for that half of
``threads``, because engines have atomics without it."""


def needed_proposals(wasm: bytes) -> frozenset[str]:
    """The proposals that a module relies on, by its types, sections, limits, and every instruction.

    Raises:
        MalformedModuleError: The bytes are not a WebAssembly module.
        UnsupportedFeatureError: An opcode is unknown; the text names it in hexadecimal, and its offset.
    """
    summary = read_module(wasm)
    declared = set(summary.proposals)
    used: set[str] = set()
    for section in summary.sections:
        _scan_expressions(wasm, section, declared)
        if section.id is SectionId.CODE:
            _CodeScanner(wasm, used).scan(section)
    if "legacy-exceptions" in used and "exceptions" not in used:
        # Both kinds of exceptions declare tags the same way.
        declared.discard("exceptions")
    return frozenset(declared | used)


def _scan_expressions(wasm: bytes, section: Section, found: set[str]) -> None:
    for expression in constant_expressions(wasm, section, found):
        cursor = Cursor(wasm, expression.start, expression.end)
        while not cursor.at_end:
            at = cursor.pos
            instruction = read_instruction(cursor)
            _note(instruction, Cursor(wasm, at, cursor.pos), found)
            if instruction.code in _EXTENDED_CONST:
                found.add("extended-const")


# i32.add, sub, mul and their siblings of 64 bits
_EXTENDED_CONST = frozenset({0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E})

_FIRST_VERSION_BLOCK = rb"[\x40\x7c-\x7f]"
# A single byte from 0x40 is a value type or none, anything else a type index.
_INDEXED_BLOCK = rb"(?:[\x40\x7c-\x7f]|(?![\x40-\x7f])[\x80-\xff]{0,4}[\x00-\x7f])"


class _CodeScanner:
    """Scans code in strides that end at what would be news: once a proposal was found, its instructions are plain."""

    def __init__(self, wasm: bytes, found: set[str]) -> None:
        self._wasm = wasm
        self._found = found
        self._step = self._new_stride()

    def scan(self, section: Section) -> None:
        """Scans a code section."""
        for body in read_bodies(section.cursor(self._wasm)):
            cursor = Cursor(self._wasm, body.locals, body.end)
            decoder = DeclarationDecoder(cursor, self._found)
            for _ in range(cursor.count()):
                cursor.u32()
                decoder.value_type()
            self._scan_instructions(cursor)

    def _scan_instructions(self, cursor: Cursor) -> None:
        while True:
            at = self._step(self._wasm, cursor.pos, cursor.end)
            if at >= cursor.end:
                return
            cursor.pos = at
            known = len(self._found)
            instruction = read_instruction(cursor)
            _note(instruction, Cursor(self._wasm, at, cursor.pos), self._found)
            if len(self._found) != known:
                self._step = self._new_stride()

    def _new_stride(self) -> Stride:
        news = frozenset(
            instruction.code
            for instruction in instruction_set().values()
            if (instruction.proposal is not None and instruction.proposal not in self._found)
            or not _TYPED.isdisjoint(instruction.immediates)
        )
        return stride(news, _INDEXED_BLOCK if "multi-value" in self._found else _FIRST_VERSION_BLOCK)


_TYPED = frozenset({Immediate.HEAP_TYPE, Immediate.VALUE_TYPES})
"""Immediates that may need a proposal of their own."""


def _note(instruction: Instruction, cursor: Cursor, found: set[str]) -> None:
    """Notes the proposals of an instruction and of its immediates."""
    if instruction.proposal is not None:
        found.add(instruction.proposal)
    first = instruction.immediates[:1]
    if first == (Immediate.BLOCK_TYPE,):
        cursor.skip(1)
        _note_block_type(DeclarationDecoder(cursor, found))
    elif first == (Immediate.HEAP_TYPE,):
        cursor.skip(len(instruction.encoding))
        DeclarationDecoder(cursor, found).heap_type()
    elif first == (Immediate.VALUE_TYPES,):
        cursor.skip(1)
        decoder = DeclarationDecoder(cursor, found)
        for _ in range(cursor.count()):
            decoder.value_type()


def _note_block_type(decoder: DeclarationDecoder) -> None:
    first = decoder.cursor.data[decoder.cursor.pos]
    if not 0x40 <= first < 0x80:
        decoder.proposals.add("multi-value")
    elif first != 0x40:
        decoder.value_type()
