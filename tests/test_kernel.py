"""The kernel: what guests see of Extism memory, on every engine (sections 1 and 2 of the protocol's description)."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from extism_engines import errors
from extism_engines.engines import api
from extism_engines.kernel import LAYOUT, Kernel, KernelCode
from tools.build_kernel import build

from .support import func, instance

MAX64 = (1 << 64) - 1


class Bench:
    """A kernel with short names for its functions; results unsigned."""

    def __init__(self, engine: api.Engine, max_pages: int | None = None) -> None:
        self.store = engine.new_store()
        self.kernel = Kernel(KernelCode.of(engine), self.store, max_pages)
        self.exports: dict[str, Any] = self.kernel.functions
        exit_with = instance(self.store, engine, '(module (func (export "f") (result i64) (i64.const 0)))')["f"]
        self.exchange = self.kernel.prepare_entry(func(exit_with))

    def __getattr__(self, name: str) -> Any:
        function = func(self.exports[name])

        def call(*args: int) -> int | None:
            results = function(*args)
            return results[0] & MAX64 if results else None

        return call

    def begin(self, data: bytes = b"") -> None:
        """Begins a call, as the entry thunk does."""
        self.exchange(data)


@pytest.fixture
def bench(engine: api.Engine) -> Iterator[Bench]:
    made = Bench(engine)
    yield made
    made.store.close()


def test_the_built_files_match_their_text() -> None:
    for path, wasm in build().items():
        assert path.read_bytes() == wasm, f"{path.name} is out of date: run python tools/build_kernel.py"


def test_blocks(bench: Bench) -> None:
    assert bench.alloc(0) == 0
    a, b = bench.alloc(1), bench.alloc(100)
    assert a and b and a != b
    assert (bench.length(a), bench.length(b)) == (1, 100)
    assert (bench.length_unsafe(a), bench.length_unsafe(b)) == (1, 100)
    bench.free(a)
    assert (bench.length(a), bench.length(b)) == (0, 100)
    bench.free(a)
    bench.free(0)
    bench.free(MAX64)
    bench.free(b + 1)
    assert bench.length(b) == 100


@pytest.mark.parametrize("bogus", [0, 1, 15, 63, 64, 1024, 1041, 1048, 65536, 10**6, 2**32, 2**32 + 1040, 2**63, MAX64])
def test_bogus_handles_have_no_length_and_no_effect(bench: Bench, bogus: int) -> None:
    assert bench.length(bogus) == 0  # with no block at all
    block = bench.alloc(32)
    assert bench.length(bogus) == 0
    assert bench.length_unsafe(bogus) == 0
    bench.free(bogus)
    bench.error_set(bogus)
    assert bench.length(block) == 32


def test_every_offset_inside_a_block_is_no_handle(bench: Bench) -> None:
    block = bench.alloc(64)
    assert [bench.length(block + i) for i in range(1, 64)] == [0] * 63


@pytest.mark.parametrize("size", [2**32, 2**32 - 16, 2**40, 2**48, MAX64, MAX64 - 15, 2**63])
def test_sizes_that_cannot_be_had_give_0(bench: Bench, size: int) -> None:
    assert bench.alloc(size) == 0
    assert bench.length(bench.alloc(10)) == 10


def test_loads_and_stores(bench: Bench) -> None:
    block = bench.alloc(16)
    bench.store_u64(block, 0x0102030405060708)
    assert [bench.load_u8(block + i) for i in range(8)] == [8, 7, 6, 5, 4, 3, 2, 1]
    bench.store_u8(block + 3, 0x1FF)
    assert bench.load_u8(block + 3) == 0xFF
    bench.store_u64(block + 5, MAX64)
    assert bench.load_u64(block + 5) == MAX64
    assert bench.load_u64(block) == 0xFFFFFF04FF060708


@pytest.mark.parametrize(
    "offset", [0, 8, 63, 1023, 1017, 65529, 65535, 65536, 65537, 2**32 - 1, 2**32, MAX64 - 7, MAX64]
)
def test_out_of_range_loads_give_0_and_stores_do_nothing(bench: Bench, offset: int) -> None:
    bench.begin(b"input")
    before = bench.kernel.memory.read(0, 65536)
    bench.store_u8(offset, 255)
    bench.store_u64(offset, MAX64)
    assert bench.load_u8(offset) == 0
    assert bench.load_u64(offset) == 0
    assert bench.kernel.memory.read(0, 65536) == before


def test_input(bench: Bench) -> None:
    bench.begin(b"0123456789")
    assert (bench.input_length(), bench.length(bench.input_offset())) == (10, 10)
    assert [bench.input_load_u8(i) for i in (0, 9, 10, 2**32, MAX64)] == [48, 57, 0, 0, 0]
    assert bench.input_load_u64(2) == struct.unpack("<Q", b"23456789")[0]
    assert [bench.input_load_u64(i) for i in (3, 9, 10, MAX64, MAX64 - 8)] == [0] * 5
    bench.free(bench.input_offset())
    assert (bench.input_length(), bench.input_offset()) == (0, LAYOUT.input)
    bench.begin(b"")
    assert (bench.input_length(), bench.input_offset()) == (0, 0)


def test_input_set(bench: Bench) -> None:
    bench.begin(b"abc")
    block = bench.alloc(8)
    bench.store_u64(block, int.from_bytes(b"replaced", "little"))
    bench.input_set(block + 2, 6)
    assert (bench.input_offset(), bench.input_length(), bench.input_load_u8(0)) == (block + 2, 6, ord("p"))
    for handle, length in ((0, 4), (block, 2**20), (2**40, 1), (MAX64, MAX64)):
        bench.input_set(handle, length)
        assert (bench.input_offset(), bench.input_length()) == (block + 2, 6)


def test_output_may_be_any_range_inside(bench: Bench) -> None:
    bench.begin(b"hello world")
    handle = bench.input_offset()
    bench.output_set(handle + 6, 5)
    assert bench.kernel.output == b"world"
    for offset, length in ((0, 0), (0, 5), (handle, 2**32), (MAX64, 1), (2**40, 0), (handle, MAX64)):
        bench.output_set(offset, length)
        assert (bench.output_offset(), bench.output_length()) == (handle + 6, 5)
    bench.output_set(handle, 0)
    assert (bench.output_length(), bench.kernel.output) == (0, b"")
    bench.output_set(handle, 2000)
    assert bench.kernel.output == b"hello world" + bytes(1989)


def test_output_outlives_the_freeing_of_its_block(bench: Bench) -> None:
    bench.begin(b"kept")
    bench.output_set(bench.input_offset(), 4)
    bench.free(bench.input_offset())
    assert bench.kernel.output == b"kept"


def test_error(bench: Bench) -> None:
    assert not bench.error_get()
    block = bench.kernel.store_block(b"broken")
    bench.error_set(block)
    assert bench.error_get() == block
    error: bytes | None = bench.kernel.error
    assert error == b"broken"
    for bogus in (2**40, MAX64, 2**32):
        bench.error_set(bogus)
        assert bench.error_get() == block
    bench.error_set(block + 1)
    assert bench.kernel.error == b""
    bench.error_set(block)
    bench.free(block)
    assert bench.kernel.error == b""
    bench.error_set(0)
    assert bench.kernel.error is None


def test_a_call_begins_with_a_clean_memory(bench: Bench) -> None:
    bench.begin(b"first input, with a secret in it " * 100)
    for size in (10, 5000, 70000):
        block = bench.alloc(size)
        bench.store_u64(block, MAX64)
        bench.store_u8(block + size - 1, 255)
    bench.error_set(block)
    bench.output_set(block, 10)
    host_block = bench.kernel.store_block(b"host" * 3000)
    bench.kernel.free(host_block)  # the top goes back, the bytes are still there
    bench.begin(b"x")
    memory = bench.kernel.memory
    assert memory.read(LAYOUT.input, 1) == b"x"
    assert not any(memory.read(LAYOUT.input + 1, memory.size - LAYOUT.input - 1))
    assert (bench.output_length(), bench.error_get(), bench.input_length()) == (0, 0, 1)


def test_the_host_frees_the_last_block_as_any_other(bench: Bench) -> None:
    first, last = bench.alloc(20), bench.alloc(20)
    for handle in (last, first):
        bench.kernel.free(handle)
        assert bench.kernel.block(handle) is None
        assert (bench.length(handle), bench.kernel.length(handle)) == (0, 0)
        bench.kernel.free(handle)


@pytest.mark.parametrize("before", [0, 2900, 3000, 3100, 60_000])
def test_the_host_takes_blocks(bench: Bench, before: int) -> None:
    """Its bytes come out, and it is free as any other freed block, wherever it lies and however long it is."""
    bench.begin(b"input")
    bench.alloc(before)
    for size in (1, 16, 47, 48, 49, 5000, 200_000):
        data = bytes(i % 251 for i in range(size))
        for behind in (False, True):  # whether another block follows
            handle = bench.kernel.store_block(data)
            rest = bench.alloc(10) if behind else 0
            assert bench.kernel.take(handle) == data
            assert (bench.length(handle), bench.kernel.length(handle)) == (0, 0)
            assert bench.kernel.take(handle) is None
            assert bench.length(rest) == (10 if behind else 0)
            bench.free(rest)
    assert bench.kernel.take(bench.input_offset()) == b"input"
    assert bench.input_length() == 0
    bench.begin(b"x")
    memory = bench.kernel.memory
    assert not any(memory.read(LAYOUT.input + 1, memory.size - LAYOUT.input - 1))


def test_a_block_at_the_very_end_is_taken(bench: Bench) -> None:
    """Where fewer bytes follow its header than are read with one."""
    for size in (16, 20, 48):
        bench.begin()
        capacity = (size + 15) & -16
        while (room := bench.kernel.memory.size - bench.kernel.store_block(b"x") - 16 - 32 - capacity) < 0:
            bench.alloc(api.PAGE_SIZE)
        bench.alloc(room)
        handle = bench.alloc(size)
        assert handle + capacity == bench.kernel.memory.size
        bench.kernel.memory.write(handle, bytes(range(size)))
        assert bench.kernel.take(handle) == bytes(range(size))
        assert bench.kernel.take(handle) is None
        assert bench.alloc(size) == handle


@pytest.mark.parametrize("bogus", [0, 1, 15, 1024, 1041, 65536, 10**6, 2**32, 2**32 + 1040, 2**63, MAX64, -1, -16])
def test_nothing_is_taken_where_no_block_begins(bench: Bench, bogus: int) -> None:
    handle = bench.kernel.store_block(b"here")
    assert bench.kernel.take(bogus) is None
    assert bench.kernel.take(handle + 16) is None
    assert bench.kernel.block(handle) == b"here"


def test_reset(bench: Bench) -> None:
    bench.begin(b"input")
    block = bench.alloc(100)
    bench.store_u8(block, 7)
    bench.reset()
    assert (bench.input_length(), bench.input_offset(), bench.length(block), bench.load_u8(block)) == (0, 0, 0, 0)
    assert bench.load_u8(bench.alloc(100)) == 0


def test_freed_blocks_are_used_again(bench: Bench) -> None:
    for _ in range(200):
        blocks = [bench.alloc(size) for size in (1000, 20000, 48)]
        for block in blocks:
            bench.free(block)
    assert bench.kernel.memory.size <= 2 * api.PAGE_SIZE
    large = bench.alloc(1 << 20)
    bench.free(large)
    size = bench.kernel.memory.size
    for _ in range(16):
        bench.alloc(60000)
    assert bench.kernel.memory.size == size


def test_allocation_at_random(bench: Bench) -> None:
    """Live blocks never overlap and keep their bytes, whatever is freed in between, by guest and host."""
    rng = random.Random(20)
    live: dict[int, bytes] = {}
    for step in range(1500):
        if live and rng.random() < 0.45:
            handle = rng.choice(list(live))
            assert bench.kernel.block(handle) == live[handle]
            assert rng.choice((bench.free, bench.kernel.free, bench.kernel.take))(handle) in (None, live.pop(handle))
            assert bench.length(handle) == 0
        else:
            data = rng.randbytes(rng.choice((1, 15, 16, 17, 100, 130, 5000, 40000)))
            if rng.random() < 0.5:
                handle = bench.kernel.store_block(data)
            else:
                handle = bench.alloc(len(data))
                bench.kernel.memory.write(handle, data)
            assert handle not in live
            live[handle] = data
        if step % 300 == 0:
            assert all(bench.kernel.block(handle) == data for handle, data in live.items())
            spans = sorted((handle, handle + len(data)) for handle, data in live.items())
            assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_guest_that_overwrites_everything_harms_only_itself(bench: Bench) -> None:
    """Headers are in reach of the guest. Nothing traps, hangs or reaches the kernel's own state."""
    rng = random.Random(7)
    for _ in range(60):
        bench.begin(rng.randbytes(50))
        blocks = [bench.alloc(rng.randrange(1, 3000)) for _ in range(8)]
        for block in blocks[::2]:
            bench.free(block)
        for _ in range(60):
            offset = rng.choice(blocks) + rng.randrange(-16, 64)
            bench.store_u64(
                offset, rng.choice((MAX64, 0, 2**32 - 16, 16, rng.getrandbits(64), 0x465245455F424C4B, 1040))
            )
        state = bench.kernel.memory.read(0, 48)
        for block in blocks:
            bench.free(block)
            bench.length(block)
            bench.kernel.block(block)
            rng.choice((bench.kernel.free, bench.kernel.take))(block)
        for _ in range(20):
            handle = bench.alloc(rng.randrange(1, 5000))
            assert handle == 0 or handle >= LAYOUT.input
        assert bench.kernel.memory.read(8, 24) == state[8:32]
    bench.begin(b"fine")
    assert bench.kernel.memory.read(LAYOUT.input, 4) == b"fine"
    assert not any(bench.kernel.memory.read(LAYOUT.input + 4, 3000))


def test_the_limit_is_oom(engine: api.Engine) -> None:
    bench = Bench(engine, max_pages=2)
    assert bench.alloc(100_000)
    with pytest.raises(errors.TrapError):
        bench.alloc(100_000)
    assert bench.kernel.ran_out_of_memory
    with pytest.raises(errors.OutOfMemoryError, match="^oom$"):
        bench.kernel.allocate(100_000)
    with pytest.raises(errors.OutOfMemoryError, match="^oom$"):
        bench.begin(bytes(3 * api.PAGE_SIZE))
    bench.begin(b"after")
    assert not bench.kernel.ran_out_of_memory
    assert bench.input_length() == 5
    bench.store.close()


def test_host_blocks(bench: Bench) -> None:
    assert bench.kernel.store_block(b"") == 0
    assert bench.kernel.block(0) is None
    for size in (1, 47, 48, 49, 1000, 65000, 200000):
        data = bytes(i % 251 for i in range(size))
        handle = bench.kernel.store_block(data)
        assert bench.kernel.block(handle) == data
        assert bench.length(handle) == size
    assert bench.kernel.allocate(0) == 0
    with pytest.raises(errors.OutOfMemoryError):
        bench.kernel.allocate(2**33)


def test_only_the_protocols_functions_are_for_guests(engine: api.Engine) -> None:
    assert set(KernelCode.of(engine).guest_functions) == {
        *("alloc", "free", "length", "length_unsafe", "load_u8", "load_u64", "store_u8", "store_u64"),
        *("input_offset", "input_length", "input_load_u8", "input_load_u64", "input_set"),
        *("output_set", "output_offset", "output_length", "error_set", "error_get", "memory_bytes", "reset"),
    }
