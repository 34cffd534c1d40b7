"""Modules in the text format that between them use most of the binary format."""

from __future__ import annotations

PLAIN = """
(module $plain
  (import "host" "log" (func $log (param i32)))
  (import "host" "base" (global $base i32))
  (memory (export "memory") 1)
  (table $t 2 funcref) (elem (i32.const 0) $twice $fib)
  (global $count (export "count") (mut i32) (i32.const 0))
  (global $other (export "other") (mut i64) (i64.const -7))
  (data (global.get $base) "hello")
  (type $unary (func (param i32) (result i32)))
  (func $twice (param i32) (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.mul (local.get 0) (i32.const 2)))
  (func $fib (export "fib") (param $n i32) (result i32)
    (call $log (local.get $n))
    (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1)))
                     (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "apply") (param $f i32) (param $x i32) (result i32)
    (i32.store (i32.const 64) (local.get $x))
    (call_indirect (type $unary) (i32.load (i32.const 64)) (local.get $f)))
  (func (export "switch") (param i32) (result i32)
    (block $a (block $b (block $c (br_table $a $b $c (local.get 0)))
      (return (i32.const 30))) (return (call $twice (i32.const 10))))
    (call $fib (i32.const 7)))
  (func (export "divide") (param i32 i32) (result i32)
    (drop (call $fib (i32.const 1)))
    (i32.div_s (local.get 0) (local.get 1)))
  (func (export "dead") (result i32)
    (block (result i32) (i32.const 4) (br 0) (i32.add) (call $fib) (unreachable) (drop) (drop))))
"""

WIDE = """
(module
  (type $pair (struct (field (mut i8)) (field i64)))
  (rec (type $list (array (mut (ref null $pair)))) (type $open (sub (func (param i32)))))
  (import "m" "memory" (memory 1 3))
  (import "m" "table" (table 1 externref))
  (import "m" "tag" (tag (param i32)))
  (memory $big i64 1 9) (memory $shared 1 2)
  (table $init 3 10 (ref null $open) (ref.null $open))
  (table $wide i64 1 5 funcref)
  (tag $mine (param i64 f32))
  (global $g (mut (ref null $pair)) (struct.new $pair (i32.const 1) (i64.const 300)))
  (global $sum i32 (i32.add (i32.const 3) (i32.const -4)))
  (global $v (mut v128) (v128.const i64x2 1 2))
  (elem declare func $f)
  (elem $passive funcref (ref.func $f) (ref.null func))
  (data $bytes "passive")
  (export "v" (global $v)) (export "big" (memory $big)) (export "wide" (table $wide)) (export "mine" (tag $mine))
  (func $f (export "f") (param i32 v128 externref) (result i64 (ref null $pair))
    (local $x (ref null $list))
    (local.set $x (array.new_fixed $list 2 (global.get $g) (ref.null $pair)))
    (v128.store offset=4 (i32.const 0) (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 1) (global.get $v)))
    (i64.store $big offset=0x100000000 (i64.const 1) (i64.const 2))
    (memory.copy $big $shared (i64.const 0) (i32.const 0) (i32.const 1))
    (block $out (result i32 i64) (try_table (result i32 i64) (catch $mine $lost) (throw 0 (i32.const 1))) (br $out)
      ) (drop) (drop)
    (i64.const 9) (struct.new_default $pair)))
""".replace("(catch $mine $lost)", "")

START = """
(module
  (global $g (export "g") (mut i32) (i32.const 1))
  (func $start (global.set $g (i32.const 42)))
  (start $start))
"""

EXCEPTIONS = """
(module (tag $e (param i32))
  (func (export "f") (param i32) (result i32)
    (block $caught (result i32)
      (try_table (result i32) (catch $e $caught) (throw $e (local.get 0))))))
"""

TAIL = """(module (func $f (export "f") (param i32) (result i32) (return_call $f (local.get 0))))"""

ALL = {"plain": PLAIN, "wide": WIDE, "start": START, "exceptions": EXCEPTIONS, "tail": TAIL}
