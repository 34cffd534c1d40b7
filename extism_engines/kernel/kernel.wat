;; The Extism kernel: the functions of `extism:host/env` that manage memory, input, output and error text.
;;
;; Plugins are linked to these functions wasm-to-wasm, so that copying eight bytes costs a nanosecond and not a
;; crossing into Python. All state lies at fixed places in this memory, below the heap, where the host reads it
;; and where no guest function can write: every guest access is checked against [HEAP, top).
;;
;;   byte  size  word
;;      0     8  status      what the called export returned; written by the entry thunk
;;      8     8  out_off     output range: first byte
;;     16     8  out_len     output range: bytes
;;     24     8  error       handle of the error text, 0 for none
;;     32     8  in_off      handle of the input block, 0 for empty input
;;     40     8  in_len      input: bytes
;;     48     8  top         first byte past the last block; always 16-aligned and at least HEAP + 16
;;     56     8  high        where `top` was before the host took back the last block; 0, or stale and lower, otherwise
;;     64     8  mem_bytes   size of this memory
;;     72     8  limit       bytes this memory may reach; written by the host
;;     80     8  oom         1 when a growth beyond `limit` was asked for: the trap that follows means "oom"
;;     88     8  bins_used   1 when some free list is not empty
;;    128   448  bins        112 heads of free lists (i32 handles), four to each power of two
;;   1024        HEAP        blocks, one after the other
;;
;; A block is a 16-byte header and its data; a handle is the offset of the data, so handles are multiples of 16.
;;   header: +0 capacity (i32, multiple of 16)  +4 used (i32, what was asked for)  +8 mark (i64, LIVE or FREE)
;; A freed block has the handle of the next one in its list at +4; its bytes stay as they are until it is used again.
;;
;; Guests may overwrite headers (the reference kernel lets them, too). So nothing read from the heap is trusted:
;; handles from a free list are checked again before use, no walk is longer than the number of bins, and nothing
;; here can trap on a bad offset.
(module $extism-kernel
  (memory (export "memory") 1)
  ;; An empty heap before the first call: start functions and initialisers may allocate. top, high, mem_bytes, limit.
  (data (i32.const 48) "\10\04\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\01\00\00\00\00\00" "\00\00\00\00\01\00\00\00")
  (global $LIVE i64 (i64.const 0x4c4956455f424c4b))
  (global $FREE i64 (i64.const 0x465245455f424c4b))

  ;; -- blocks ------------------------------------------------------------------------------------------

  ;; Whether h is the first data byte of a block that carries the given mark.
  (func $is_block (param $h i64) (param $mark i64) (result i32)
    (if (i64.ge_u (i64.sub (local.get $h) (i64.const 1040)) (i64.sub (i64.load (i32.const 48)) (i64.const 1040)))
      (then (return (i32.const 0))))
    (if (i32.wrap_i64 (i64.and (local.get $h) (i64.const 15)))
      (then (return (i32.const 0))))
    (i64.eq (i64.load (i32.sub (i32.wrap_i64 (local.get $h)) (i32.const 8))) (local.get $mark)))

  ;; Address of the list for blocks of this capacity: four lists to each power of two.
  (func $bin (param $capacity i32) (result i32)
    (local $log i32)
    (local.set $log (i32.sub (i32.const 31) (i32.clz (local.get $capacity))))
    (i32.add (i32.const 128)
      (i32.shl
        (i32.add
          (i32.shl (i32.sub (local.get $log) (i32.const 4)) (i32.const 2))
          (i32.and (i32.shr_u (local.get $capacity) (i32.sub (local.get $log) (i32.const 2))) (i32.const 3)))
        (i32.const 2))))

  ;; Puts a block of this capacity into its list.
  (func $release (param $h i32) (param $capacity i32)
    (local $bin i32)
    (local.set $bin (call $bin (local.get $capacity)))
    (i32.store (i32.sub (local.get $h) (i32.const 16)) (local.get $capacity))
    (i64.store (i32.sub (local.get $h) (i32.const 8)) (global.get $FREE))
    (i32.store (i32.sub (local.get $h) (i32.const 12)) (i32.load (local.get $bin)))
    (i32.store (local.get $bin) (local.get $h))
    (i64.store (i32.const 88) (i64.const 1)))

  ;; Takes the first block of a list if it holds `capacity` bytes; 0 if not. A list whose head is not what it
  ;; should be (a guest has scribbled over it) is dropped.
  (func $take (param $bin i32) (param $capacity i32) (result i32)
    (local $h i32) (local $has i32)
    (local.set $h (i32.load (local.get $bin)))
    (if (i32.eqz (local.get $h)) (then (return (i32.const 0))))
    (if (i32.eqz (call $is_block (i64.extend_i32_u (local.get $h)) (global.get $FREE)))
      (then (i32.store (local.get $bin) (i32.const 0)) (return (i32.const 0))))
    (local.set $has (i32.load (i32.sub (local.get $h) (i32.const 16))))
    (if (i32.or
          (i32.ne (call $bin (i32.or (local.get $has) (i32.const 16))) (local.get $bin))
          (i64.gt_u (i64.add (i64.extend_i32_u (local.get $h)) (i64.extend_i32_u (local.get $has)))
            (i64.load (i32.const 48))))
      (then (i32.store (local.get $bin) (i32.const 0)) (return (i32.const 0))))
    (if (i32.lt_u (local.get $has) (local.get $capacity)) (then (return (i32.const 0))))
    (i32.store (local.get $bin) (i32.load (i32.sub (local.get $h) (i32.const 12))))
    ;; What is left over becomes a block of its own when it is worth a header.
    (if (i32.ge_u (i32.sub (local.get $has) (local.get $capacity)) (i32.const 128))
      (then
        (i32.store (i32.sub (local.get $h) (i32.const 16)) (local.get $capacity))
        (call $release
          (i32.add (i32.add (local.get $h) (local.get $capacity)) (i32.const 16))
          (i32.and (i32.sub (i32.sub (local.get $has) (local.get $capacity)) (i32.const 16)) (i32.const -16)))))
    (local.get $h))

  ;; Looks for a freed block in `count` lists from the one for this capacity upwards.
  (func $reuse (param $capacity i32) (param $count i32) (result i32)
    (local $bin i32) (local $h i32)
    (local.set $bin (call $bin (local.get $capacity)))
    (loop $next (result i32)
      (local.set $h (call $take (local.get $bin) (local.get $capacity)))
      (if (local.get $h) (then (return (local.get $h))))
      (local.set $bin (i32.add (local.get $bin) (i32.const 4)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (i32.and (i32.gt_s (local.get $count) (i32.const 0)) (i32.lt_u (local.get $bin) (i32.const 576))))
      (i32.const 0)))

  ;; Makes the memory at least `end` bytes; 0 when that cannot be had.
  (func $grow (param $end i64) (result i32)
    (if (i64.gt_u (local.get $end) (i64.load (i32.const 72)))
      (then (i64.store (i32.const 80) (i64.const 1)) (unreachable)))
    (if (i32.eq
          (memory.grow (i32.wrap_i64 (i64.shr_u
            (i64.add (i64.sub (local.get $end) (i64.load (i32.const 64))) (i64.const 65535)) (i64.const 16))))
          (i32.const -1))
      (then (return (i32.const 0))))
    (i64.store (i32.const 64) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
    (i32.const 1))

  (func (export "alloc") (param $n i64) (result i64)
    (local $capacity i64) (local $h i64) (local $end i64) (local $old i32)
    (if (i64.eqz (local.get $n)) (then (return (i64.const 0))))
    (if (i64.gt_u (local.get $n) (i64.const 0xffff0000)) (then (return (i64.const 0))))
    (local.set $capacity (i64.and (i64.add (local.get $n) (i64.const 15)) (i64.const -16)))
    (local.set $h (i64.add (i64.load (i32.const 48)) (i64.const 16)))
    (local.set $end (i64.add (local.get $h) (local.get $capacity)))
    (if (i64.ne (i64.load (i32.const 88)) (i64.const 0))
      (then
        ;; A block of about this size first; any block at all before the memory has to grow.
        (local.set $old (call $reuse (i32.wrap_i64 (local.get $capacity))
          (select (i32.const 112) (i32.const 5) (i64.gt_u (local.get $end) (i64.load (i32.const 64))))))))
    (if (local.get $old)
      (then (local.set $h (i64.extend_i32_u (local.get $old))))
      (else
        (if (i64.gt_u (local.get $end) (i64.load (i32.const 64)))
          (then
            (if (i64.gt_u (local.get $end) (i64.const 0x100000000)) (then (return (i64.const 0))))
            (if (i32.eqz (call $grow (local.get $end))) (then (return (i64.const 0))))))
        (i64.store (i32.const 48) (local.get $end))
        (i32.store (i32.wrap_i64 (i64.sub (local.get $h) (i64.const 16))) (i32.wrap_i64 (local.get $capacity)))))
    (i32.store (i32.wrap_i64 (i64.sub (local.get $h) (i64.const 12))) (i32.wrap_i64 (local.get $n)))
    (i64.store (i32.wrap_i64 (i64.sub (local.get $h) (i64.const 8))) (global.get $LIVE))
    (local.get $h))

  (func (export "free") (param $h i64)
    (local $capacity i32)
    (if (i32.eqz (call $is_block (local.get $h) (global.get $LIVE))) (then (return)))
    (if (i64.eq (local.get $h) (i64.load (i32.const 32))) (then (i64.store (i32.const 40) (i64.const 0))))
    (local.set $capacity (i32.and (i32.load (i32.wrap_i64 (i64.sub (local.get $h) (i64.const 16)))) (i32.const -16)))
    ;; A header that a guest has overwritten must not put bytes beyond the heap into a list.
    (if (i32.or
          (i32.eqz (local.get $capacity))
          (i64.gt_u (i64.add (local.get $h) (i64.extend_i32_u (local.get $capacity))) (i64.load (i32.const 48))))
      (then (i64.store (i32.wrap_i64 (i64.sub (local.get $h) (i64.const 8))) (i64.const 0)) (return)))
    (call $release (i32.wrap_i64 (local.get $h)) (local.get $capacity)))

  (func $length (param $h i64) (result i64)
    (if (result i64) (call $is_block (local.get $h) (global.get $LIVE))
      (then (i64.load32_u (i32.wrap_i64 (i64.sub (local.get $h) (i64.const 12)))))
      (else (i64.const 0))))
  (export "length" (func $length))
  (export "length_unsafe" (func $length))

  ;; -- bytes: outside [HEAP, top) loads give 0 and stores do nothing -------------------------------------

  (func (export "load_u8") (param $p i64) (result i32)
    (if (i64.gt_u (i64.sub (local.get $p) (i64.const 1024)) (i64.sub (i64.load (i32.const 48)) (i64.const 1025)))
      (then (return (i32.const 0))))
    (i32.load8_u (i32.wrap_i64 (local.get $p))))
  (func (export "load_u64") (param $p i64) (result i64)
    (if (i64.gt_u (i64.sub (local.get $p) (i64.const 1024)) (i64.sub (i64.load (i32.const 48)) (i64.const 1032)))
      (then (return (i64.const 0))))
    (i64.load (i32.wrap_i64 (local.get $p))))
  (func (export "store_u8") (param $p i64) (param $v i32)
    (if (i64.gt_u (i64.sub (local.get $p) (i64.const 1024)) (i64.sub (i64.load (i32.const 48)) (i64.const 1025)))
      (then (return)))
    (i32.store8 (i32.wrap_i64 (local.get $p)) (local.get $v)))
  (func (export "store_u64") (param $p i64) (param $v i64)
    (if (i64.gt_u (i64.sub (local.get $p) (i64.const 1024)) (i64.sub (i64.load (i32.const 48)) (i64.const 1032)))
      (then (return)))
    (i64.store (i32.wrap_i64 (local.get $p)) (local.get $v)))

  ;; -- input, output, error ----------------------------------------------------------------------------

  (func (export "input_offset") (result i64) (i64.load (i32.const 32)))
  (func (export "input_length") (result i64) (i64.load (i32.const 40)))
  (func (export "input_load_u8") (param $i i64) (result i32)
    (if (i64.ge_u (local.get $i) (i64.load (i32.const 40))) (then (return (i32.const 0))))
    (i32.load8_u (i32.wrap_i64 (i64.add (i64.load (i32.const 32)) (local.get $i)))))
  ;; The last seven bytes must be read one by one: eight that are not all there give 0.
  (func (export "input_load_u64") (param $i i64) (result i64)
    (if (i64.ge_u (local.get $i) (i64.load (i32.const 40))) (then (return (i64.const 0))))
    (if (i64.gt_u (i64.add (local.get $i) (i64.const 8)) (i64.load (i32.const 40))) (then (return (i64.const 0))))
    (i64.load (i32.wrap_i64 (i64.add (i64.load (i32.const 32)) (local.get $i)))))
  (func (export "input_set") (param $h i64) (param $n i64)
    (if (i32.eqz (call $in_memory (local.get $h) (local.get $n) (i64.load (i32.const 48)))) (then (return)))
    (i64.store (i32.const 32) (local.get $h))
    (i64.store (i32.const 40) (local.get $n)))

  ;; Whether [p, p + n) lies between the start of the heap and `end`.
  (func $in_memory (param $p i64) (param $n i64) (param $end i64) (result i32)
    (i32.and
      (i32.and (i64.ge_u (local.get $p) (i64.const 1024)) (i64.lt_u (local.get $p) (local.get $end)))
      (i64.le_u (local.get $n) (i64.sub (local.get $end) (local.get $p)))))
  ;; The range may begin inside a block and go past its end; one that leaves the memory is ignored.
  (func (export "output_set") (param $p i64) (param $n i64)
    (if (i32.eqz (call $in_memory (local.get $p) (local.get $n) (i64.load (i32.const 64)))) (then (return)))
    (i64.store (i32.const 8) (local.get $p))
    (i64.store (i32.const 16) (local.get $n)))
  (func (export "output_offset") (result i64) (i64.load (i32.const 8)))
  (func (export "output_length") (result i64) (i64.load (i32.const 16)))
  (func (export "error_set") (param $h i64)
    (if (i32.or
          (i64.eqz (local.get $h))
          (call $in_memory (local.get $h) (i64.const 0) (i64.load (i32.const 64))))
      (then (i64.store (i32.const 24) (local.get $h)))))
  (func (export "error_get") (result i64) (i64.load (i32.const 24)))
  (func (export "memory_bytes") (result i64) (i64.load (i32.const 64)))

  ;; -- the start of a call -----------------------------------------------------------------------------

  ;; Forgets every block and zeroes what lay from `from` on, so that nothing of one call is left for the next.
  (func $wipe (param $from i64)
    (local $end i64)
    (local.set $end (select (i64.load (i32.const 56)) (i64.load (i32.const 48))
      (i64.gt_u (i64.load (i32.const 56)) (i64.load (i32.const 48)))))
    (if (i64.gt_u (local.get $end) (local.get $from))
      (then
        (memory.fill (i32.wrap_i64 (local.get $from)) (i32.const 0)
          (i32.wrap_i64 (i64.sub (local.get $end) (local.get $from))))))
    (i64.store (i32.const 56) (i64.const 0))
    (if (i64.ne (i64.load (i32.const 88)) (i64.const 0))
      (then
        (memory.fill (i32.const 128) (i32.const 0) (i32.const 448))
        (i64.store (i32.const 88) (i64.const 0))))
    (i64.store (i32.const 8) (i64.const 0))
    (i64.store (i32.const 16) (i64.const 0))
    (i64.store (i32.const 24) (i64.const 0))
    (i64.store (i32.const 80) (i64.const 0))
    (i64.store (i32.const 64) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16))))

  (func $reset (export "reset")
    (call $wipe (i64.const 1024))
    (i64.store (i32.const 32) (i64.const 0))
    (i64.store (i32.const 40) (i64.const 0))
    (i64.store (i32.const 48) (i64.const 1040)))

  ;; Begins a call whose input of n bytes the host has put at 1040. Not for guests: only the entry thunks import it.
  (func (export "begin") (param $n i64)
    (if (i64.eqz (local.get $n)) (then (call $reset) (return)))
    (call $wipe (i64.add (local.get $n) (i64.const 1040)))
    (i32.store (i32.const 1024) (i32.wrap_i64 (i64.and (i64.add (local.get $n) (i64.const 15)) (i64.const -16))))
    (i32.store (i32.const 1028) (i32.wrap_i64 (local.get $n)))
    (i64.store (i32.const 1032) (global.get $LIVE))
    (i64.store (i32.const 32) (i64.const 1040))
    (i64.store (i32.const 40) (local.get $n))
    (i64.store (i32.const 48) (i64.and (i64.add (local.get $n) (i64.const 1055)) (i64.const -16)))))
