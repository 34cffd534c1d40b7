(module
  (memory (export "memory") 1 4)
  (global (export "counter") (mut i64) (i64.const -3))
  (table (export "table") 2 4 funcref)
  (elem (i32.const 0) $twice)
  (func $twice (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1))))
