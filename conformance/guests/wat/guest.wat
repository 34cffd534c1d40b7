;; The plugin by hand: what a plugin development kit does for its users, spelled out. Uses nothing beyond the first
;; version of WebAssembly.
(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_load_u8" (func $input_load_u8 (param i64) (result i32)))
  (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "length" (func $length (param i64) (result i64)))
  (import "extism:host/env" "load_u8" (func $load_u8 (param i64) (result i32)))
  (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
  (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
  (import "extism:host/env" "config_get" (func $config_get (param i64) (result i64)))

  (memory 1 1)
  (data (i32.const 0) "greeting")
  (data (i32.const 8) "Hello")

  ;; Copies the whole input to $to in Extism memory: 8 bytes at a time, the rest bytewise, because a load of 8 bytes
  ;; that crosses the end of the input gives 0.
  (func $copy_input (param $to i64)
    (local $i i64)
    (local $size i64)
    (local.set $size (call $input_length))
    (block $words_done
      (loop $words
        (br_if $words_done (i64.gt_u (i64.add (local.get $i) (i64.const 8)) (local.get $size)))
        (call $store_u64
          (i64.add (local.get $to) (local.get $i))
          (call $input_load_u64 (local.get $i)))
        (local.set $i (i64.add (local.get $i) (i64.const 8)))
        (br $words)))
    (block $bytes_done
      (loop $bytes
        (br_if $bytes_done (i64.ge_u (local.get $i) (local.get $size)))
        (call $store_u8
          (i64.add (local.get $to) (local.get $i))
          (call $input_load_u8 (local.get $i)))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $bytes))))

  ;; A new block with $size bytes of the plugin's memory at $from.
  (func $block (param $from i32) (param $size i32) (result i64)
    (local $block i64)
    (local $i i32)
    (local.set $block (call $alloc (i64.extend_i32_u (local.get $size))))
    (block $done
      (loop $bytes
        (br_if $done (i32.ge_u (local.get $i) (local.get $size)))
        (call $store_u8
          (i64.add (local.get $block) (i64.extend_i32_u (local.get $i)))
          (i32.load8_u (i32.add (local.get $from) (local.get $i))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $bytes)))
    (local.get $block))

  ;; Output: the input. An empty input has no block, and output_set(0, 0) leaves the output empty.
  (func $echo (export "echo") (result i32)
    (local $output i64)
    (local.set $output (call $alloc (call $input_length)))
    (call $copy_input (local.get $output))
    (call $output_set (local.get $output) (call $input_length))
    (i32.const 0))

  ;; Output: the bytes of the input, last one first.
  (func $reverse (export "reverse") (result i32)
    (local $output i64)
    (local $i i64)
    (local $size i64)
    (local.set $size (call $input_length))
    (local.set $output (call $alloc (local.get $size)))
    (block $done
      (loop $bytes
        (br_if $done (i64.ge_u (local.get $i) (local.get $size)))
        (call $store_u8
          (i64.add (local.get $output) (local.get $i))
          (call $input_load_u8
            (i64.sub (i64.sub (local.get $size) (local.get $i)) (i64.const 1))))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $bytes)))
    (call $output_set (local.get $output) (local.get $size))
    (i32.const 0))

  ;; Output: "Hello, <input>!". The config key "greeting" replaces "Hello".
  (func $greet (export "greet") (result i32)
    (local $greeting i64)
    (local $greeting_size i64)
    (local $size i64)
    (local $output i64)
    (local $i i64)
    (local.set $greeting (call $config_get (call $block (i32.const 0) (i32.const 8))))
    (if (i64.eqz (local.get $greeting))
      (then (local.set $greeting (call $block (i32.const 8) (i32.const 5)))))
    (local.set $greeting_size (call $length (local.get $greeting)))
    ;; 3: the comma, the space and the exclamation mark.
    (local.set $size (i64.add (i64.add (local.get $greeting_size) (call $input_length)) (i64.const 3)))
    (local.set $output (call $alloc (local.get $size)))
    (block $done
      (loop $bytes
        (br_if $done (i64.ge_u (local.get $i) (local.get $greeting_size)))
        (call $store_u8
          (i64.add (local.get $output) (local.get $i))
          (call $load_u8 (i64.add (local.get $greeting) (local.get $i))))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br $bytes)))
    (call $store_u8 (i64.add (local.get $output) (local.get $i)) (i32.const 0x2c))
    (call $store_u8 (i64.add (local.get $output) (i64.add (local.get $i) (i64.const 1))) (i32.const 0x20))
    (call $copy_input (i64.add (local.get $output) (i64.add (local.get $i) (i64.const 2))))
    (call $store_u8
      (i64.add (local.get $output) (i64.sub (local.get $size) (i64.const 1)))
      (i32.const 0x21))
    (call $output_set (local.get $output) (local.get $size))
    (i32.const 0))

  ;; Traps.
  (func $trap (export "trap") (result i32)
    (unreachable))

  ;; Does nothing: the cost of a call.
  (func $noop (export "noop") (result i32)
    (i32.const 0)))
