"""The stack budget: rewritten modules behave as before, until the budget is used up."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime

from extism_engines.errors import MalformedModuleError, UnsupportedFeatureError
from extism_engines.wasm import STACK_IMPORT, Needs, prepare, read_module
from extism_engines.wasm.budget import LEAF_FRAME, StackBudget
from extism_engines.wasm.stack import FRAME_CONSTANT

from . import samples
from .builder import function, wat
from .test_rewriter import validate

NEEDS = Needs(stack_budget=True)
BUDGET = 1 << 19


class Guest:
    """A module on Wasmtime with everything the samples import."""

    def __init__(self, wasm: bytes, budget: int = BUDGET) -> None:
        self.store = wasmtime.Store()
        self.logged: list[int] = []
        linker = wasmtime.Linker(self.store.engine)
        i32 = wasmtime.ValType.i32()
        log = wasmtime.Func(self.store, wasmtime.FuncType([i32], []), self.logged.append)
        base = wasmtime.Global(self.store, wasmtime.GlobalType(i32, False), wasmtime.Val.i32(16))
        self.stack = wasmtime.Global(self.store, wasmtime.GlobalType(i32, True), wasmtime.Val.i32(budget))
        linker.define(self.store, "host", "log", log)
        linker.define(self.store, "host", "base", base)
        linker.define(self.store, *STACK_IMPORT, self.stack)
        self.exports: Any = linker.instantiate(self.store, wasmtime.Module(self.store.engine, wasm)).exports(self.store)

    def call(self, name: str, *args: int) -> Any:
        """The result, or why it trapped."""
        try:
            return self.exports[name](self.store, *args)
        except wasmtime.Trap as trap:
            return trap.trap_code

    @property
    def left(self) -> int:
        """The budget."""
        return int(self.stack.value(self.store))

    def state(self) -> dict[str, Any]:
        """Memory and globals."""
        memory = self.exports.get("memory")
        found: dict[str, Any] = {"memory": bytes(memory.read(self.store)) if memory is not None else None}
        for name in ("count", "other"):
            if name in self.exports:
                found[name] = self.exports[name].value(self.store)
        return found


CALLS: list[tuple[str, tuple[int, ...]]] = [
    *(("fib", (n,)) for n in range(9)),
    *(("apply", (f, x)) for f in range(4) for x in (0, 5)),
    *(("switch", (n,)) for n in range(4)),
    *(("divide", args) for args in [(7, 2), (7, 0), (-(2**31), -1)]),
    ("dead", ()),
]


def test_same_behaviour() -> None:
    wasm = wat(samples.PLAIN)
    rewritten = prepare(wasm, NEEDS).wasm
    validate(rewritten)
    before, after = Guest(wasm), Guest(rewritten)
    for name, args in CALLS:
        assert after.call(name, *args) == before.call(name, *args), (name, args)
        assert after.state() == before.state(), (name, args)
        assert after.logged == before.logged


def test_the_budget_is_as_before_after_a_normal_return() -> None:
    guest = Guest(prepare(wat(samples.PLAIN), NEEDS).wasm)
    for name, args in CALLS:
        if isinstance(guest.call(name, *args), int):
            assert guest.left == BUDGET, (name, args)
        guest.stack.set_value(guest.store, wasmtime.Val.i32(BUDGET))


def test_the_budget_runs_out_where_it_must() -> None:
    """fib of n has n frames that count at most."""
    wasm = prepare(wat(samples.PLAIN), NEEDS).wasm
    size = frame_sizes(wat(samples.PLAIN))[2]
    for frames in range(1, 8):
        guest = Guest(wasm, budget=frames * size)
        assert guest.call("fib", frames) != wasmtime.TrapCode.UNREACHABLE
        assert guest.call("fib", frames + 1) == wasmtime.TrapCode.UNREACHABLE
        guest = Guest(wasm, budget=frames * size - 1)
        assert guest.call("fib", frames) == wasmtime.TrapCode.UNREACHABLE


def frame_sizes(wasm: bytes) -> dict[int, int]:
    """The estimated frame of each function by index."""
    summary = read_module(wasm)
    return {index: frame.size for index, frame in StackBudget(wasm, summary, frozenset()).frames()}


@pytest.mark.parametrize(
    "text",
    [
        "(module (func $f (export \"f\") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1))))",
        """(module (func $f (export "f") (param i32) (result i32) (i32.add (call $g (local.get 0)) (i32.const 1)))
            (func $g (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1))))""",
        """(module (type $t (func (param i32) (result i32))) (table 1 funcref) (elem (i32.const 0) $f)
            (func $f (export "f") (type $t)
              (i32.add (call_indirect (type $t) (local.get 0) (i32.const 0)) (i32.const 1))))""",
        """(module (type $t (func (param i32) (result i32))) (elem declare func $f)
            (func $f (export "f") (type $t) (i32.add (call_ref $t (local.get 0) (ref.func $f)) (i32.const 1))))""",
        f"""(module (func $f (export "f") (param i32) (result i32) {"(local i64)" * 2000}
              (i32.add (call $f (local.get 0)) (i32.const 1))))""",
    ],
    ids=["recursion", "mutual", "table", "reference", "locals"],
)
def test_endless_recursion_traps(text: str) -> None:
    wasm = prepare(wat(text), NEEDS).wasm
    validate(wasm)
    guest = Guest(wasm, budget=1 << 17)
    assert guest.call("f", 1) == wasmtime.TrapCode.UNREACHABLE
    assert guest.left < 0, "this is how the host tells it from an unreachable of the module's own"


def test_the_guests_own_unreachable_leaves_a_budget() -> None:
    text = "(module (func $f (export \"f\") (param i32) (if (local.get 0) (then (unreachable))) (call $f (i32.const 1))))"
    guest = Guest(prepare(wat(text), NEEDS).wasm)
    assert guest.call("f", 0) == wasmtime.TrapCode.UNREACHABLE
    assert 0 < guest.left < BUDGET


def test_reserve() -> None:
    """Room for the largest frame that counts, and for small ones that don't."""
    leaf = wat('(module (func (export "f")))')
    assert prepare(leaf, Needs()).stack_reserve == 0
    assert prepare(leaf, NEEDS).stack_reserve == 2 * LEAF_FRAME
    large = wat(f'(module (func $f (export "f") {"(local i64)" * 2000} (call $f)))')
    assert prepare(large, NEEDS).stack_reserve == frame_sizes(large)[0] > 2 * LEAF_FRAME


def test_two_modules_share_the_budget() -> None:
    """Each calls the other for ever, through an import."""
    store = wasmtime.Store()
    i32 = wasmtime.ValType.i32()
    stack = wasmtime.Global(store, wasmtime.GlobalType(i32, True), wasmtime.Val.i32(100_000))
    table = wasmtime.Table(
        store, wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(1, 1)), None
    )
    linker = wasmtime.Linker(store.engine)
    linker.define(store, *STACK_IMPORT, stack)
    linker.define(store, "m", "table", table)
    first = prepare(
        wat(
            """(module (import "m" "table" (table 1 funcref)) (type $t (func))
            (func (export "f") (call_indirect (type $t) (i32.const 0))))"""
        ),
        NEEDS,
    ).wasm
    second = prepare(wat('(module (import "first" "f" (func $f)) (func (export "g") (call $f)))'), NEEDS).wasm
    linker.define_instance(store, "first", linker.instantiate(store, wasmtime.Module(store.engine, first)))
    exports: Any = linker.instantiate(store, wasmtime.Module(store.engine, second)).exports(store)
    table.set(store, 0, exports["g"])
    with pytest.raises(wasmtime.Trap) as caught:
        exports["g"](store)
    assert caught.value.trap_code == wasmtime.TrapCode.UNREACHABLE


def test_leaf_imports_are_not_told() -> None:
    text = '(module (import "host" "log" (func (param i32))) (func (export "f") (call 0 (i32.const 1))))'
    wasm = wat(text)
    told = prepare(wasm, NEEDS).wasm
    assert told is not wasm
    assert prepare(wasm, Needs(stack_budget=True, leaf_imports=frozenset({("host", "log")}))).wasm is wasm


def test_calls_of_small_leaves_are_not_counted() -> None:
    wasm = wat("(module (func (result i32) (i32.const 1)) (func (export \"f\") (drop (call 0))))")
    assert prepare(wasm, NEEDS).wasm is wasm


def test_a_large_leaf_counts_itself() -> None:
    leaf = f"(module (func (export \"f\") {'(local i64)' * 600}))"
    wasm = prepare(wat(leaf), NEEDS).wasm
    validate(wasm)
    assert Guest(wasm, budget=4000).call("f") == wasmtime.TrapCode.UNREACHABLE
    assert Guest(wasm, budget=8000).call("f") is None


def test_globals_move_everywhere() -> None:
    count = 130  # indices of one byte and of two, before and after
    names = "".join(f"(global $g{n} (mut i32) (i32.const {n}))" for n in range(count))
    text = f"""(module (import "host" "base" (global i32)) {names}
        (global $first i32 (i32.const 5)) (global $copy i32 (global.get $first))
        (func $sum (export "sum") (result i32) (local $s i32)
          {"".join(f"(local.set $s (i32.add (local.get $s) (global.get $g{n})))" for n in range(count))}
          {"".join(f"(global.set $g{n} (i32.const 1))" for n in range(count))}
          (if (i32.eqz (local.get $s)) (then (drop (call $sum))))
          (local.get $s))
        (export "count" (global $g129)) (export "base" (global 0)))"""
    wasm = wat(text)
    rewritten = prepare(wasm, NEEDS).wasm
    validate(rewritten)
    guest = Guest(rewritten)
    assert guest.exports["count"].value(guest.store) == 129
    assert guest.exports["base"].value(guest.store) == 16
    assert guest.call("sum") == sum(range(count))
    assert guest.exports["count"].value(guest.store) == 1


@pytest.mark.parametrize("text", [samples.WIDE, samples.START, samples.PLAIN], ids=["wide", "start", "plain"])
def test_rewritten_modules_validate(text: str) -> None:
    validate(prepare(wat(text), NEEDS).wasm)


def test_global_in_every_kind_of_constant_expression() -> None:
    text = """(module (import "m" "f" (func $f)) (import "m" "g" (global $imported funcref))
        (global $a i32 (i32.const 0)) (global $r funcref (ref.func $f)) (memory 1)
        (table $t 3 funcref (global.get $imported)) (table $u 3 funcref)
        (elem (table $u) (offset (i32.add (global.get $a) (i32.const 1))) func $f)
        (elem (table $u) (global.get $a) funcref (global.get $r) (ref.func $f))
        (elem $p funcref (global.get $r)) (elem declare func $f)
        (data (global.get $a) "x") (data "passive")
        (func (export "call") (call $f)))"""
    rewritten = prepare(wat(text), NEEDS).wasm
    validate(rewritten)
    assert read_module(rewritten).exports == read_module(wat(text)).exports


def test_dead_code_does_not_raise_the_height() -> None:
    def size(dead: str) -> int:
        text = f"(module (func $f (export \"f\") (block (br 0) {dead}) (call $f)))"
        return frame_sizes(wat(text))[0]

    assert size("") == FRAME_CONSTANT + 8 * 2
    assert size("(i32.const 1) (drop)" * 50) == size("")
    pushed = "(i32.const 1)" * 500 + "(unreachable)"
    assert size(pushed) == size("")
    nested = "(block (result i32) (i32.const 1))" * 300 + "unreachable"
    assert size(nested) == size("")


def test_dead_code_does_not_lower_the_height() -> None:
    """Operands that dead code takes from nowhere must not be taken from what lies below the block."""
    live = "(i64.const 1)" * 40
    hidden = f"""(module (func $f (export "f") {live}
        (block (br 0) {"drop " * 39} {"i64.add " * 9}) {live} (call $f) {"drop " * 80}))"""
    plain = f"""(module (func $f (export "f") {live} (block (br 0)) {live} (call $f) {"drop " * 80}))"""
    assert frame_sizes(wat(hidden))[0] >= frame_sizes(wat(plain))[0] >= FRAME_CONSTANT + 8 * 80


@pytest.mark.parametrize(
    ("code", "height"),
    [
        ("(if (result i64) (i32.const 1) (then (i64.const 1)) (else (i64.const 2))) (drop)", 1),
        ("(i64.const 1) (i64.const 2) (block (param i64 i64) (result i64) (i64.add)) (drop)", 2),
        ("(i64.const 1) (loop (param i64) (result i64 i64) (i64.const 2)) (drop) (drop)", 2),
        ("(if (i32.const 1) (then (return)) (else (drop (i32.const 1))))", 1),
        ("(block (result i64) (unreachable)) (i64.const 1) (drop) (drop)", 2),
        ("(block (block (br_table 0 1 (i32.const 0))) (i64.const 1) (i64.const 2) (drop) (drop))", 2),
        ("(drop (select (result i64) (i64.const 1) (i64.const 2) (i32.const 1)))", 3),
    ],
)
def test_height(code: str, height: int) -> None:
    """Instructions that compute are counted apart, so the sum is compared with that of a single constant."""
    found = frame_sizes(wat(f"(module (func $f {code} (call $f)))"))[0]
    least = FRAME_CONSTANT + 8 * (1 + height)
    assert least <= found <= least + 8 * 4


def test_vectors_take_twice_as_much() -> None:
    def size(declared: str) -> int:
        return frame_sizes(wat(f"(module (func $f {declared} (call $f)))"))[0]

    assert size("(local v128)") - FRAME_CONSTANT == 2 * (size("(local i64)") - FRAME_CONSTANT)


def test_a_frame_too_large() -> None:
    text = f"(module (func $f (export \"f\") {'(local i64)' * 49_990} {'(local v128)'} (call $f)))"
    with pytest.raises(UnsupportedFeatureError, match=r"function 0 may take \d+ bytes of stack"):
        prepare(wat(text), NEEDS)
    assert prepare(wat(text), Needs(memory_pages=1)).start_export is None


@pytest.mark.parametrize("name", ["tail", "exceptions"])
def test_refused(name: str) -> None:
    text = samples.TAIL if name == "tail" else samples.EXCEPTIONS.replace("(throw", "(call 0 (i32.const 1)) drop (throw")
    with pytest.raises(UnsupportedFeatureError, match=name):
        prepare(wat(text), NEEDS)


def test_an_invalid_module_could_name_what_is_hidden() -> None:
    """Why engines validate before anything is rewritten: this one names a global that only rewriting adds."""
    wasm = function(b"\x41\x00\x24\x00\x10\x00")  # i32.const 0, global.set 0, call 0
    with pytest.raises(wasmtime.WasmtimeError):
        validate(wasm)
    with pytest.raises(wasmtime.WasmtimeError):
        validate(prepare(wasm, NEEDS).wasm)  # not even here, as indices from the hidden one on move up


@pytest.mark.parametrize(
    "code", [b"\x0b\x0b\x10\x00", b"\x02\x40\x10\x00", b"\x10\x05", b"\x11\x07\x00\x10\x00", b"\x02\x05\x0b\x10\x00"]
)
def test_malformed_code(code: bytes) -> None:
    with pytest.raises(MalformedModuleError):
        prepare(function(code), NEEDS)
