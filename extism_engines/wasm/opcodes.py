"""The instruction set: immediates, effect on the operand stack, and proposal of every instruction.

The table covers all proposals that were accepted into the standard by 2026, the legacy exceptions that browsers
shipped, and wide arithmetic. Its rows are ranges of neighbours that are alike in all three respects: a rewriter
cares for shapes, not for names. Single instructions that somebody asks for by name are in :class:`Op`.

Source: appendix "Index of Instructions" of the WebAssembly specification, and the proposals' overviews.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from functools import cache

import attrs


class Op(enum.IntEnum):
    """Instructions that need attention by name. Prefixed ones are ``prefix << 16 | number``."""

    UNREACHABLE = 0x00
    BLOCK = 0x02
    LOOP = 0x03
    IF = 0x04
    ELSE = 0x05
    TRY = 0x06
    CATCH = 0x07
    THROW = 0x08
    RETHROW = 0x09
    THROW_REF = 0x0A
    END = 0x0B
    BR = 0x0C
    BR_IF = 0x0D
    BR_TABLE = 0x0E
    RETURN = 0x0F
    CALL = 0x10
    CALL_INDIRECT = 0x11
    RETURN_CALL = 0x12
    RETURN_CALL_INDIRECT = 0x13
    CALL_REF = 0x14
    RETURN_CALL_REF = 0x15
    DELEGATE = 0x18
    CATCH_ALL = 0x19
    TRY_TABLE = 0x1F
    LOCAL_GET = 0x20
    LOCAL_TEE = 0x22
    GLOBAL_GET = 0x23
    GLOBAL_SET = 0x24
    I32_CONST = 0x41
    I32_LT_S = 0x48
    I32_LT_U = 0x49
    I32_ADD = 0x6A
    I32_SUB = 0x6B
    STRUCT_NEW = 0xFB0000
    ARRAY_NEW_FIXED = 0xFB0008


class Immediate(enum.Enum):
    """What may follow an opcode."""

    INDEX = "a u32: an index, or the depth of a label"
    INTEGER = "a signed number of up to 64 bits"
    MEMARG = "alignment, memory index if bit 6 of it is set, offset"
    BLOCK_TYPE = "nothing, a value type, or a type index"
    HEAP_TYPE = "a type index or an abstract heap type"
    VALUE_TYPES = "a vector of value types"
    LABELS = "a vector of labels and the default label"
    CATCHES = "a vector of catch clauses"
    BYTE = "a byte: a lane, or flags"
    BYTES_4 = "4 bytes"
    BYTES_8 = "8 bytes"
    BYTES_16 = "16 bytes"


@attrs.frozen
class Effect:
    """How many operands an instruction takes, and how many it leaves."""

    pops: int
    pushes: int


@attrs.frozen(eq=False)
class Instruction:
    """One instruction of the table; there is a single object for each.

    Attributes:
        code: The opcode; prefixed ones are ``prefix << 16 | number``.
        immediates: What follows the opcode.
        effect: On the operand stack, of a branch where it is not taken; ``None`` where it depends on types or
            immediates, and where blocks begin or end.
        proposal: The proposal that brought it; ``None`` for those of the first version.
    """

    code: int
    immediates: tuple[Immediate, ...]
    effect: Effect | None
    proposal: str | None

    @property
    def encoding(self) -> bytes:
        """The opcode in its shortest form."""
        if self.code < 0x100:
            return bytes([self.code])
        prefix, number = self.code >> 16, self.code & 0xFFFF
        return bytes([prefix, number]) if number < 0x80 else bytes([prefix, number & 0x7F | 0x80, number >> 7])


PREFIXES = frozenset({0xFB, 0xFC, 0xFD, 0xFE})
"""First bytes of opcodes that continue with a LEB128 number."""

# Letters for immediates in the table below.
_IMMEDIATES = {
    "i": Immediate.INDEX,
    "n": Immediate.INTEGER,
    "m": Immediate.MEMARG,
    "b": Immediate.BLOCK_TYPE,
    "h": Immediate.HEAP_TYPE,
    "v": Immediate.VALUE_TYPES,
    "l": Immediate.LABELS,
    "c": Immediate.CATCHES,
    "1": Immediate.BYTE,
    "4": Immediate.BYTES_4,
    "8": Immediate.BYTES_8,
    "x": Immediate.BYTES_16,
}

# Proposal, then rows: opcodes (hexadecimal; "-" joins first and last), immediates ("." for none), effect ("?" where it
# depends), and for the reader what the range is. Which proposal a row belongs to is the key.
_TABLE: dict[str | None, str] = {
    None: """
        00     .   ?    unreachable
        01     .   0>0  nop
        02-04  b   ?    block, loop, if
        05     .   ?    else
        0b     .   ?    end
        0c     i   ?    br
        0d     i   1>0  br_if
        0e     l   ?    br_table
        0f     .   ?    return
        10     i   ?    call
        11     ii  ?    call_indirect type table
        1a     .   1>0  drop
        1b     .   3>1  select
        20     i   0>1  local.get
        21     i   1>0  local.set
        22     i   1>1  local.tee
        23     i   0>1  global.get
        24     i   1>0  global.set
        28-35  m   1>1  loads
        36-3e  m   2>0  stores
        3f     i   0>1  memory.size
        40     i   1>1  memory.grow
        41-42  n   0>1  i32.const, i64.const
        43     4   0>1  f32.const
        44     8   0>1  f64.const
        45     .   1>1  i32.eqz
        46-4f  .   2>1  i32 comparisons
        50     .   1>1  i64.eqz
        51-66  .   2>1  i64, f32, f64 comparisons
        67-69  .   1>1  i32.clz, ctz, popcnt
        6a-78  .   2>1  i32 arithmetic
        79-7b  .   1>1  i64.clz, ctz, popcnt
        7c-8a  .   2>1  i64 arithmetic
        8b-91  .   1>1  f32.abs … sqrt
        92-98  .   2>1  f32.add … copysign
        99-9f  .   1>1  f64.abs … sqrt
        a0-a6  .   2>1  f64.add … copysign
        a7-bf  .   1>1  conversions
    """,
    "sign-extension": """
        c0-c4  .   1>1  i32.extend8_s … i64.extend32_s
    """,
    "saturating-float-to-int": """
        fc.00-fc.07  .  1>1  i32.trunc_sat_f32_s … i64.trunc_sat_f64_u
    """,
    "bulk-memory": """
        fc.08  ii  3>0  memory.init
        fc.09  i   0>0  data.drop
        fc.0a  ii  3>0  memory.copy
        fc.0b  i   3>0  memory.fill
        fc.0c  ii  3>0  table.init
        fc.0d  i   0>0  elem.drop
        fc.0e  ii  3>0  table.copy
    """,
    "reference-types": """
        1c     v   3>1  select with types
        25     i   1>1  table.get
        26     i   2>0  table.set
        d0     h   0>1  ref.null
        d1     .   1>1  ref.is_null
        d2     i   0>1  ref.func
        fc.0f  i   2>1  table.grow
        fc.10  i   0>1  table.size
        fc.11  i   3>0  table.fill
    """,
    "tail-call": """
        12     i   ?    return_call
        13     ii  ?    return_call_indirect
    """,
    "exceptions": """
        08     i   ?    throw
        0a     .   ?    throw_ref
        1f     bc  ?    try_table
    """,
    "legacy-exceptions": """
        06     b   ?    try
        07     i   ?    catch
        09     i   ?    rethrow
        18     i   ?    delegate
        19     .   ?    catch_all
    """,
    "function-references": """
        14-15  i   ?    call_ref, return_call_ref
        d4     .   1>1  ref.as_non_null
        d5     i   1>1  br_on_null
        d6     i   1>0  br_on_non_null
    """,
    "gc": """
        d3     .    2>1  ref.eq
        fb.00  i    ?    struct.new
        fb.01  i    0>1  struct.new_default
        fb.02-fb.04  ii  1>1  struct.get
        fb.05  ii   2>0  struct.set
        fb.06  i    2>1  array.new
        fb.07  i    1>1  array.new_default
        fb.08  ii   ?    array.new_fixed
        fb.09-fb.0a  ii  2>1  array.new_data, array.new_elem
        fb.0b-fb.0d  i   2>1  array.get
        fb.0e  i    3>0  array.set
        fb.0f  .    1>1  array.len
        fb.10  i    4>0  array.fill
        fb.11  ii   5>0  array.copy
        fb.12-fb.13  ii  4>0  array.init_data, array.init_elem
        fb.14-fb.17  h   1>1  ref.test, ref.cast
        fb.18-fb.19  1ihh  1>1  br_on_cast, br_on_cast_fail
        fb.1a-fb.1b  .   1>1  any.convert_extern, extern.convert_any
        fb.1c-fb.1e  .   1>1  ref.i31, i31.get_s, i31.get_u
    """,
    "wide-arithmetic": """
        fc.13-fc.14  .  4>2  i64.add128, i64.sub128
        fc.15-fc.16  .  2>2  i64.mul_wide_s, i64.mul_wide_u
    """,
    "simd": """
        fd.00-fd.0a  m   1>1  v128 loads
        fd.0b        m   2>0  v128.store
        fd.0c        x   0>1  v128.const
        fd.0d        x   2>1  i8x16.shuffle
        fd.0e        .   2>1  i8x16.swizzle
        fd.0f-fd.14  .   1>1  splats
        fd.15-fd.16  1   1>1  i8x16.extract_lane
        fd.17        1   2>1  i8x16.replace_lane
        fd.18-fd.19  1   1>1  i16x8.extract_lane
        fd.1a        1   2>1  i16x8.replace_lane
        fd.1b        1   1>1  i32x4.extract_lane
        fd.1c        1   2>1  i32x4.replace_lane
        fd.1d        1   1>1  i64x2.extract_lane
        fd.1e        1   2>1  i64x2.replace_lane
        fd.1f        1   1>1  f32x4.extract_lane
        fd.20        1   2>1  f32x4.replace_lane
        fd.21        1   1>1  f64x2.extract_lane
        fd.22        1   2>1  f64x2.replace_lane
        fd.23-fd.4c  .   2>1  comparisons
        fd.4d        .   1>1  v128.not
        fd.4e-fd.51  .   2>1  v128.and … xor
        fd.52        .   3>1  v128.bitselect
        fd.53        .   1>1  v128.any_true
        fd.54-fd.57  m1  2>1  v128.load_lane
        fd.58-fd.5b  m1  2>0  v128.store_lane
        fd.5c-fd.5d  m   1>1  v128.load_zero
        fd.5e-fd.64  .   1>1  demote, promote, i8x16.abs … bitmask
        fd.65-fd.66  .   2>1  i8x16.narrow
        fd.67-fd.6a  .   1>1  f32x4.ceil … nearest
        fd.6b-fd.73  .   2>1  i8x16.shl … sub_sat_u
        fd.74-fd.75  .   1>1  f64x2.ceil, floor
        fd.76-fd.79  .   2>1  i8x16.min_s … max_u
        fd.7a        .   1>1  f64x2.trunc
        fd.7b        .   2>1  i8x16.avgr_u
        fd.7c-fd.81  .   1>1  extadd_pairwise, i16x8.abs, neg
        fd.82        .   2>1  i16x8.q15mulr_sat_s
        fd.83-fd.84  .   1>1  i16x8.all_true, bitmask
        fd.85-fd.86  .   2>1  i16x8.narrow
        fd.87-fd.8a  .   1>1  i16x8.extend
        fd.8b-fd.93  .   2>1  i16x8.shl … sub_sat_u
        fd.94        .   1>1  f64x2.nearest
        fd.95-fd.99  .   2>1  i16x8.mul … max_u
        fd.9b-fd.9f  .   2>1  i16x8.avgr_u, extmul
        fd.a0-fd.a1  .   1>1  i32x4.abs, neg
        fd.a3-fd.a4  .   1>1  i32x4.all_true, bitmask
        fd.a7-fd.aa  .   1>1  i32x4.extend
        fd.ab-fd.ae  .   2>1  i32x4.shl … add
        fd.b1        .   2>1  i32x4.sub
        fd.b5-fd.ba  .   2>1  i32x4.mul … dot_i16x8_s
        fd.bc-fd.bf  .   2>1  i32x4.extmul
        fd.c0-fd.c1  .   1>1  i64x2.abs, neg
        fd.c3-fd.c4  .   1>1  i64x2.all_true, bitmask
        fd.c7-fd.ca  .   1>1  i64x2.extend
        fd.cb-fd.ce  .   2>1  i64x2.shl … add
        fd.d1        .   2>1  i64x2.sub
        fd.d5-fd.df  .   2>1  i64x2.mul, comparisons, extmul
        fd.e0-fd.e1  .   1>1  f32x4.abs, neg
        fd.e3        .   1>1  f32x4.sqrt
        fd.e4-fd.eb  .   2>1  f32x4.add … pmax
        fd.ec-fd.ed  .   1>1  f64x2.abs, neg
        fd.ef        .   1>1  f64x2.sqrt
        fd.f0-fd.f7  .   2>1  f64x2.add … pmax
        fd.f8-fd.ff  .   1>1  conversions
    """,
    "relaxed-simd": """
        fd.100         .  2>1  i8x16.relaxed_swizzle
        fd.101-fd.104  .  1>1  relaxed truncations
        fd.105-fd.10c  .  3>1  relaxed madd, nmadd, laneselect
        fd.10d-fd.112  .  2>1  relaxed min, max, q15mulr, dot
        fd.113         .  3>1  relaxed dot_add
    """,
    "threads": """
        fe.00        m  2>1  memory.atomic.notify
        fe.01-fe.02  m  3>1  memory.atomic.wait
        fe.03        1  0>0  atomic.fence
        fe.10-fe.16  m  1>1  atomic loads
        fe.17-fe.1d  m  2>0  atomic stores
        fe.1e-fe.47  m  2>1  atomic read-modify-write
        fe.48-fe.4e  m  3>1  atomic compare-exchange
    """,
}


@cache
def instruction_set() -> dict[int, Instruction]:
    """Every known instruction by its code."""
    return {
        instruction.code: instruction
        for proposal, rows in _TABLE.items()
        for row in rows.strip().splitlines()
        for instruction in _parse_row(row, proposal)
    }


def _parse_row(row: str, proposal: str | None) -> Iterator[Instruction]:
    opcodes, letters, effect, _ = row.split(maxsplit=3)
    first, _, last = opcodes.partition("-")
    immediates = tuple(_IMMEDIATES[letter] for letter in letters if letter != ".")
    stack = None if effect == "?" else Effect(*map(int, effect.split(">")))
    for code in range(_parse_opcode(first), _parse_opcode(last or first) + 1):
        yield Instruction(code, immediates, stack, proposal)


def _parse_opcode(text: str) -> int:
    prefix, _, number = text.rpartition(".")
    return int(prefix or "0", 16) << 16 | int(number, 16)
