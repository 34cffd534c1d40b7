;; Entry thunk for exports with an i64 result. One crossing is a whole call, and the status goes to byte 0 of the kernel's memory.
(module $extism-entry
  (import "kernel" "memory" (memory 1))
  (import "kernel" "begin" (func $begin (param i64)))
  (import "plugin" "export" (func $export (result i64)))
  (func (export "call") (param $length i64)
    (call $begin (local.get $length))
    (i64.store (i32.const 0) (call $export))))
