"""Functions that make compilers use much stack, each in its own way: the material for calibrating frame estimates.

Every module exports ``f``, which recurs for ever, and a global ``depth`` that says how often it did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

HEAD = '(module (global $depth (export "depth") (mut i64) (i64.const 0)) (memory 1)'
COUNT = "(global.set $depth (i64.add (global.get $depth) (i64.const 1)))"
SIGNATURE = '(func $f (export "f") (param $p i64) (result i64)'
RECUR = "(call $f (local.get $p))"


def _each(count: int, pattern: str) -> str:
    """A text once for each number below ``count``: ``#`` is the number, ``##`` a constant of its own."""
    return "".join(pattern.replace("##", str(2 * n + 1000003)).replace("#", str(n)) for n in range(count))


def _loop(locals: str, before: str, step: str) -> str:
    """A function that loops over ``step``, which adds to the local ``a``, and over the recursion."""
    return f"""{HEAD} {SIGNATURE} (local $a i64) {locals} {COUNT} {before}
        (loop $again {step}
          (local.set $a (i64.add (local.get $a) {RECUR}))
          (br_if $again (i64.eqz (local.get $a))))
        (local.get $a)))"""


def _add(value: str) -> str:
    return f"(local.set $a (i64.add (local.get $a) {value}))"


def locals(count: int) -> str:
    """Locals that live across the call."""
    return f"""{HEAD} {SIGNATURE} {"(local i64)" * count} {COUNT}
        {"".join(f"(local.set {n + 1} (i64.add (local.get $p) (i64.const {n})))" for n in range(count))}
        (local.set $p {RECUR}) (local.get $p)
        {"".join(f"(i64.xor (local.get {n + 1}))" for n in range(count))}))"""


def operands(count: int) -> str:
    """Operands that live across the call."""
    return f"""{HEAD} {SIGNATURE} {COUNT} (i64.const 1)
        {_each(count, "(i64.add (local.get $p) (i64.const #))")} {RECUR} {"i64.xor " * count} i64.xor))"""


def loaded_operands(count: int) -> str:
    """Operands that come from memory."""
    return f"""{HEAD} {SIGNATURE} {COUNT} (i64.const 1)
        {_each(count % 8000, "(i64.load offset=# (i32.const 0))")} {RECUR} {"i64.xor " * (count % 8000)} i64.xor))"""


def block_results(count: int) -> str:
    """Operands that come out of blocks."""
    block = """(if (result i64) (i64.eqz (local.get $p))
        (then (i64.const #)) (else (i64.add (local.get $p) (i64.const ##))))"""
    return f"{HEAD} {SIGNATURE} {COUNT} (i64.const 1) {_each(count, block)} {RECUR} {'i64.xor ' * count} i64.xor))"


def arguments(count: int) -> str:
    """A function of many parameters that calls itself with others, and needs all of them afterwards."""
    count = min(count, 900)
    return f"""{HEAD} (func $f (export "f") (param $p i64) (result i64) (call $g {"(local.get $p)" * count}))
        (func $g (param {"i64 " * count}) (result i64) {COUNT} (i64.const 1)
          (call $g {_each(count, "(i64.add (local.get #) (i64.const ##))")})
          (i64.xor) {_each(count, "(i64.xor (local.get #))")}))"""


def results(count: int) -> str:
    """A function of many results that calls itself."""
    count = min(count, 900) + 1
    return f"""{HEAD} (func $f (export "f") (param $p i64) (result i64) (call $g (local.get $p)) {"drop " * (count - 1)})
        (func $g (param $p i64) (result {"i64 " * count}) {COUNT}
          (call $g (local.get $p)) {"drop " * count}
          {_each(count, "(i64.add (local.get $p) (i64.const ##))")}))"""


def products(count: int) -> str:
    """Values that a loop does not change."""
    before = "(local.set $q (i64.add (local.get $p) (i64.const 5)))"
    return _loop("(local $q i64)", before, _each(count, _add("(i64.mul (local.get $q) (i64.const ##))")))


def comparisons(count: int) -> str:
    """The same of type i32."""
    return _loop("", "", _each(count, _add("(i64.extend_i32_u (i64.lt_u (local.get $p) (i64.const ##)))")))


def conversions(count: int) -> str:
    """The same of type f64."""
    value = "(i64.reinterpret_f64 (f64.convert_i64_u (i64.add (local.get $p) (i64.const ##))))"
    return _loop("", "", _each(count, _add(value)))


def selections(count: int) -> str:
    """The same by select."""
    value = "(select (local.get $p) (local.get $a) (i64.lt_u (local.get $p) (i64.const ##)))"
    return _loop("", "", _each(count, _add(value)))


def repeated(count: int) -> str:
    """Values computed before the call, and again after it."""
    step = _each(count, _add("(i64.mul (local.get $p) (i64.const ##))"))
    return f"{HEAD} {SIGNATURE} (local $a i64) {COUNT} {step} {_add(RECUR)} {step} (local.get $a)))"


def repeated_chains(count: int) -> str:
    """Values, each of which depends on the one before, computed before the call and again after it."""
    step = "(local.set $q (local.get $p))" + _each(
        count, _add("(local.tee $q (i64.mul (local.get $q) (i64.const ##)))")
    )
    return f"{HEAD} {SIGNATURE} (local $a i64) (local $q i64) {COUNT} {step} {_add(RECUR)} {step} (local.get $a)))"


def addresses(count: int) -> str:
    """Addresses that a loop does not change, each of which it also uses as a number."""
    before = "(local.set $q (i32.wrap_i64 (local.get $p)))"
    step = _each(
        count,
        _add("(i64.load (local.tee $r (i32.add (local.get $q) (i32.const #))))")
        + _add("(i64.extend_i32_u (local.get $r))")
        + _add("(i64.extend_i32_s (local.get $r))"),
    )
    return _loop("(local $q i32) (local $r i32)", before, step)


def far_addresses(count: int) -> str:
    """Addresses with offsets beyond any guard."""
    step = "".join(_add(f"(i64.load offset={0xF0000000 + n} (i32.wrap_i64 (local.get $p)))") for n in range(count))
    return f"""{HEAD} {SIGNATURE} (local $a i64) {COUNT} {_add(RECUR)} (loop $again {step}
        {_add(RECUR)} (br_if $again (i64.eqz (local.get $a)))) (local.get $a)))"""


def stores(count: int) -> str:
    """Addresses that a loop only writes to."""
    before = "(local.set $q (i32.wrap_i64 (local.get $p)))"
    return _loop("(local $q i32)", before, _each(count, "(i64.store (i32.mul (local.get $q) (i32.const 4)) (local.get $a))"))


def globals(count: int) -> str:
    """Many globals."""
    text = _loop("", "", _each(count, _add("(global.get $g#)") + "(global.set $g# (local.get $a))"))
    return text.replace(HEAD, HEAD + _each(count, "(global $g# (mut i64) (i64.const #))"))


def table_calls(count: int) -> str:
    """Calls through a table, at indices that a loop does not change."""
    call = "(call_indirect (type $t) (local.get $p) (i32.add (local.get $q) (i32.const #)))"
    text = _loop("(local $q i32)", "", _each(count, _add(call)))
    table = f"""(type $t (func (param i64) (result i64))) (table {count + 1} funcref)
        (elem (i32.const 0) {"$id " * count}) (func $id (param i64) (result i64) (local.get 0))"""
    return text.replace(HEAD, HEAD + table)


def direct_calls(count: int) -> str:
    """Calls of many functions."""
    text = _loop("", "", _each(count, _add("(call $h# (local.get $p))")))
    return text.replace(HEAD, HEAD + _each(count, "(func $h# (param i64) (result i64) (i64.const #))"))


def table_access(count: int) -> str:
    """Reading tables."""
    call = "(i64.extend_i32_u (ref.is_null (table.get $t (i32.add (local.get $q) (i32.const #)))))"
    text = _loop("(local $q i32)", "", _each(count, _add(call)) + "(drop (memory.grow (i32.const 0)))")
    return text.replace(HEAD, HEAD + f"(table $t {count + 1} funcref)")


def vector_locals(count: int) -> str:
    """Locals of 16 bytes."""
    return f"""{HEAD} {SIGNATURE} {"(local v128)" * count} {COUNT}
        {"".join(f"(local.set {n + 1} (i64x2.splat (i64.add (local.get $p) (i64.const {n}))))" for n in range(count))}
        (local.set $p {RECUR}) (i64x2.splat (local.get $p))
        {"".join(f"(v128.xor (local.get {n + 1}))" for n in range(count))} (i64x2.extract_lane 0)))"""


def vector_values(count: int) -> str:
    """Values of 16 bytes that a loop does not change."""
    value = "(i64x2.splat (i64.add (local.get $p) (i64.const ##)))"
    return _loop(
        "(local $v v128)",
        "",
        _each(count, f"(local.set $v (i64x2.add (local.get $v) {value}))")
        + _add("(i64x2.extract_lane 0 (local.get $v))"),
    )


def vector_constants(count: int) -> str:
    """Constants of 16 bytes."""
    return _loop(
        "(local $v v128)",
        "",
        _each(count, "(local.set $v (i64x2.add (local.get $v) (v128.const i64x2 # ##)))")
        + _add("(i64x2.extract_lane 0 (local.get $v))"),
    )


FAMILIES: dict[str, Callable[[int], str]] = {
    family.__name__: family
    for family in (
        *(locals, operands, loaded_operands, block_results, arguments, results),
        *(products, comparisons, conversions, selections, repeated, repeated_chains),
        *(addresses, far_addresses, stores, globals, table_calls, direct_calls, table_access),
        *(vector_locals, vector_values, vector_constants),
    )
}
"""Every family by name: given a number, the text of a module."""


def random_module(seed: int) -> str:
    """A function of random arithmetic, in loops or not, with recursion somewhere inside."""
    source = random.Random(seed)
    names = [f"$v{n}" for n in range(source.randrange(1, 12))]

    def value(depth: int) -> str:
        if depth == 0 or source.random() < 0.2:
            return source.choice(
                [f"(local.get {source.choice(names)})", "(local.get $p)", f"(i64.const {source.randrange(99)})"]
            )
        operator = source.choice(["add", "sub", "mul", "xor", "rotl", "shr_u", "and", "or"])
        return f"(i64.{operator} {value(depth - 1)} {value(depth - 1)})"

    def never() -> str:
        return f"(i64.eq {value(3)} (i64.const 0x7e57ab1e5eed))"

    def statements(depth: int) -> Iterator[str]:
        for _ in range(source.randrange(1, 9)):
            kind = source.random()
            if kind < 0.15 and depth:
                yield f"(loop $l{depth} {' '.join(statements(depth - 1))} (br_if $l{depth} {never()}))"
            elif kind < 0.3 and depth:
                yield f"(if (i64.eqz {value(2)}) (then {' '.join(statements(depth - 1))}))"
            elif kind < 0.4:
                yield f"(i64.store (i32.and (i32.const 65528) (i32.wrap_i64 {value(2)})) {value(2)})"
            else:
                yield f"(local.set {source.choice(names)} {value(source.randrange(1, 6))})"

    before, after = " ".join(statements(3)), " ".join(statements(3))
    declared = "".join(f"(local {name} i64)" for name in names)
    call = f"(local.set {names[0]} (i64.add {value(3)} (call $f {value(2)})))"
    loop = f"(loop $top {call} {after} (br_if $top {never()}))"
    return f"{HEAD} {SIGNATURE} {declared} {COUNT} {before} {loop} {value(3)}))"
