"""Which proposals a module needs."""

from __future__ import annotations

import pytest

from extism_engines.errors import MalformedModuleError, UnsupportedFeatureError
from extism_engines.wasm import PROPOSALS, needed_proposals
from extism_engines.wasm.opcodes import instruction_set

from . import samples
from .builder import function, module, section, wat


@pytest.mark.parametrize(
    ("text", "proposals"),
    [
        ("(module (func (param i32) (result i32) local.get 0) (table 1 funcref) (memory 1))", set()),
        ("(module (func (param i32) (result i32) (i32.extend8_s (local.get 0))))", {"sign-extension"}),
        ("(module (func (result i32) (i32.trunc_sat_f32_s (f32.const 1))))", {"saturating-float-to-int"}),
        ("(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))", {"bulk-memory"}),
        ('(module (memory 1) (data "x"))', {"bulk-memory"}),
        ("(module (func (param externref)))", {"reference-types"}),
        ("(module (func (local externref)))", {"reference-types"}),
        ("(module (table 1 externref))", {"reference-types"}),
        ("(module (table 1 funcref) (table 1 funcref))", {"reference-types"}),
        ("(module (func (result i32 i32) i32.const 1 i32.const 2))", {"multi-value"}),
        ("(module (func (i32.const 1) (block (param i32) (drop))))", {"multi-value"}),
        ('(module (global (export "g") (mut i32) (i32.const 1)))', {"mutable-globals"}),
        ('(module (import "m" "g" (global (mut i32))))', {"mutable-globals"}),
        ("(module (global (mut i32) (i32.const 1)))", set()),
        ("(module (func (local v128)))", {"simd"}),
        ("(module (func (drop (f32x4.nearest (v128.const i64x2 0 0)))))", {"simd"}),
        (
            "(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))",
            {"simd", "relaxed-simd"},
        ),
        ("(module (memory 1 1 shared))", {"shared-memory", "threads"}),
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", {"threads"}),
        ("(module (memory 1) (memory 1))", {"multi-memory"}),
        ("(module (memory i64 1))", {"memory64"}),
        ("(module (table i64 1 funcref))", {"memory64"}),
        ("(module (func $f (return_call $f)))", {"tail-call"}),
        ("(module (tag))", {"exceptions"}),
        (samples.EXCEPTIONS, {"exceptions"}),
        ("(module (global i32 (i32.add (i32.const 1) (i32.const 2))))", {"extended-const"}),
        ("(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))", {"function-references"}),
        ("(module (type (struct)))", {"gc"}),
        ("(module (func (drop (ref.i31 (i32.const 1)))))", {"gc"}),
        ("(module (func (drop (ref.null any))))", {"gc", "reference-types"}),
        (
            "(module (func (param i64) (i64.mul_wide_s (local.get 0) (local.get 0)) drop drop))",
            {"wide-arithmetic"},
        ),
    ],
)
def test_needed(text: str, proposals: set[str]) -> None:
    assert needed_proposals(wat(text)) == proposals


def test_custom_page_size() -> None:
    assert needed_proposals(module(section(5, b"\x08\x01\x00"))) == {"custom-page-sizes"}


def test_legacy_exceptions_are_not_the_new_ones() -> None:
    code = b"\x06\x40\x07\x00\x0b"  # try catch 0 end
    wasm = module(
        *(section(1, b"\x60\0\0"), section(3, b"\0"), section(13, b"\0\0")),
        section(10, bytes([len(code) + 2, 0]) + code + b"\x0b"),
    )
    assert needed_proposals(wasm) == {"legacy-exceptions"}


@pytest.mark.parametrize("code", [b"\x27", b"\xe0\x00", b"\xfc\x7f", b"\xfd\x9a\x01", b"\xfe\x80\x00\x00"])
def test_unknown_opcodes_are_named(code: bytes) -> None:
    known = code == b"\xfe\x80\x00\x00"  # an over-long 0, which is memory.atomic.notify
    if known:
        assert "threads" in needed_proposals(function(b"\x00" + code + b"\x00"))
        return
    offset = function(code).index(code)
    with pytest.raises(UnsupportedFeatureError) as caught:
        needed_proposals(function(code))
    assert f"unknown opcode {code[:3].hex(' ')}"[:18] in str(caught.value)
    assert f"(at byte {offset:#x})" in str(caught.value)


def test_code_past_the_end() -> None:
    wasm = module(section(1, b"\x60\0\0"), section(3, b"\0"), section(10, b"\x09\0\x0b"))
    with pytest.raises(MalformedModuleError, match="unexpected end"):
        needed_proposals(wasm)


def test_every_proposal_of_the_table_is_listed() -> None:
    assert {entry.proposal for entry in instruction_set().values() if entry.proposal} <= PROPOSALS
