"""What is particular about wasmtime."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from types import FrameType

import pytest

import extism_engines as extism
from extism_engines import errors
from extism_engines.engines import api, wasmtime
from extism_engines.errors import TrapKind
from extism_engines.wasm.types import FuncType

from ..support import HANDLE_TO_HANDLE, I64, binary, func, instance

LOOP = """(module (import "" "host" (func $host (param i64) (result i64)))
  (func (export "run") (param $n i64) (result i64) (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (call $host (local.get $n))))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $next (i64.gt_s (local.get $n) (i64.const 0))))
    (local.get $sum)))"""


class FromHandler(BaseException):
    """Raised by a signal handler."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handlers_exception_is_never_lost(wasmtime_engine: api.Engine) -> None:
    """Signals arrive all the time while a guest calls back; each exception ends the call that it arrived in."""
    store = wasmtime_engine.new_store()
    calls = [0]

    def host(value: int) -> int:
        calls[0] += 1
        return value

    run = func(instance(store, wasmtime_engine, LOOP, store.host_function(HANDLE_TO_HANDLE, host))["run"])
    sent = 0

    def handler(_number: int, _frame: FrameType | None) -> None:
        nonlocal sent
        sent += 1
        raise FromHandler

    previous = signal.signal(signal.SIGALRM, handler)
    caught = 0
    try:
        while caught < 200:
            try:
                # Once, so that there is never a second exception while the first is on its way.
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                while True:
                    assert run(1000) == (500500,)
            except FromHandler:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert caught == sent
    assert run(10) == (55,)
    store.close()


def test_exceptions_of_other_threads_do_not_mix(wasmtime_engine: api.Engine) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        store = wasmtime_engine.new_store()
        mine = ValueError(number)

        def host(_value: int) -> int:
            raise mine

        run = func(instance(store, wasmtime_engine, LOOP, store.host_function(HANDLE_TO_HANDLE, host))["run"])
        for _ in range(300):
            try:
                wrong.append(run(1))
            except ValueError as error:
                if error is not mine:
                    wrong.append(error)
        store.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_run_meanwhile(wasmtime_engine: api.Engine) -> None:
    store = wasmtime_engine.new_store()
    text = """(module (func (export "spin") (param $n i64)
      (loop $next (local.set $n (i64.sub (local.get $n) (i64.const 1))) (br_if $next (i64.ne (local.get $n) (i64.const 0))))))"""
    spin = func(instance(store, wasmtime_engine, text)["spin"])
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    while ticks[0] - before < 3:
        before = ticks[0]
        spin(20_000_000)
    stop.set()
    thread.join()
    store.close()


def test_deep_recursion_is_a_trap(wasmtime_engine: api.Engine) -> None:
    store = wasmtime_engine.new_store()
    exports = instance(
        store, wasmtime_engine, '(module (func $f (export "f") (result i32) (i32.add (call $f) (i32.const 1))))'
    )
    for _ in range(3):
        with pytest.raises(errors.TrapError) as caught:
            func(exports["f"])()
        assert caught.value.kind is TrapKind.STACK_OVERFLOW
        assert 0 < len(caught.value.frames) <= 64
    store.close()


def test_frames_have_names(wasmtime_engine: api.Engine) -> None:
    store = wasmtime_engine.new_store()
    text = '(module $m (func $inner unreachable) (func $outer (export "f") (call $inner)))'
    with pytest.raises(errors.TrapError) as caught:
        func(instance(store, wasmtime_engine, text)["f"])()
    assert [frame.function_name for frame in caught.value.frames] == ["inner", "outer"]
    assert caught.value.frames[0].module_name == "m"
    assert "frame: m!inner at 0x" in caught.value.report()
    store.close()


def test_memories_with_64_bit_offsets(wasmtime_engine: api.Engine) -> None:
    store = wasmtime_engine.new_store()
    mem = instance(store, wasmtime_engine, '(module (memory (export "m") i64 1))')["m"]
    assert isinstance(mem, api.Memory)
    mem.write(65530, b"abcdef")
    mem.grow(3)
    assert (mem.read(65530, 8), mem.size) == (b"abcdef\0\0", 4 * 65536)
    with pytest.raises(IndexError):
        mem.read(4 * 65536, 1)
    store.close()


def test_proposals_that_are_on(wasmtime_engine: api.Engine) -> None:
    """One use of each proposal that the capabilities name."""
    for text in (
        "(module (func (result v128) (i8x16.splat (i32.const 1))))",
        "(module (func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))",
        "(module (memory 1) (memory 1))",
        "(module (memory i64 1))",
        "(module (func $f (return_call $f)))",
        "(module (tag $t) (func (throw $t)))",
        "(module (type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1)))))",
        "(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 2))))",
    ):
        wasmtime_engine.validate(binary(text))
        wasmtime_engine.compile(binary(text))
    with pytest.raises(extism.UnsupportedFeatureError, match="needs shared-memory"):
        extism.Plugin(binary("(module (memory 1 1 shared))"), engine=wasmtime_engine, functions=[])
    atomics = binary("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))")
    if "threads" in wasmtime_engine.capabilities.proposals:
        wasmtime_engine.compile(atomics)
    else:
        with pytest.raises(extism.UnsupportedFeatureError, match="needs threads"):
            extism.Plugin(atomics, engine=wasmtime_engine, functions=[])


def test_untested_versions_are_refused() -> None:
    for version in ("49.0.2", "50.0.0", "51.0.0", "99.1.0"):
        with pytest.raises(errors.EngineUnavailableError, match=version) as caught:
            wasmtime._check_version(version)
        assert caught.value.remedy == 'pip install "wasmtime>=50.0.1,<51.0.0"'
    for version in ("50.0.1", "50.1.0"):
        wasmtime._check_version(version)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


TRAPPING = """
    from extism_engines.engines import get_engine
    from extism_engines.errors import TrapError
    engine = get_engine({engine!r})
    wasm = engine.parse_text('(module (memory 1) (func (export "f") (drop (i32.load (i32.const 70000)))) (func (export "d") (param i32) (drop (i32.div_u (i32.const 1) (local.get 0)))))')
    def trap():
        store = engine.new_store()
        exports = store.instantiate(engine.compile(wasm), []).exports
        for name, args in (("f", ()), ("d", (0,))):
            try:
                exports[name](*args)
            except TrapError as error:
                print(error)
"""


@pytest.mark.parametrize("where", ["before", "after"])
def test_faulthandler_may_be_enabled_at_any_time(engine: api.Engine, where: str) -> None:
    if engine.name == "fake":
        pytest.skip("runs no native code")
    enable = "    import faulthandler; faulthandler.enable()\n"
    code = TRAPPING.format(engine=engine.name)
    code = enable + code if where == "before" else code + "    trap()\n" + enable
    run = run_python(code + "    trap()\n    trap()\n")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("out of bounds memory access") == (2 if where == "before" else 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_can_compile_after_its_parent_did(wasmtime_engine: api.Engine) -> None:
    code = f"""
        import os, warnings
        warnings.simplefilter("ignore")
        import extism_engines as extism
        from extism_engines.engines import get_engine
        text = b'(module (func (export "f") (result i32) (i32.const 0)))'
        kept = extism.Plugin(text, engine={wasmtime_engine.name!r})
        kept.call("f")
        child = os.fork()
        if not child:
            made = extism.Plugin(text, engine={wasmtime_engine.name!r})
            made.call("f")
            kept.call("f")
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        extism.Plugin(text, engine={wasmtime_engine.name!r}).call("f")
    """
    run = run_python(code)
    assert run.stdout.strip() == "7", run.stderr


def test_many_host_functions_and_their_arguments(wasmtime_engine: api.Engine) -> None:
    """The fast shapes of the trampoline and the general one."""
    store = wasmtime_engine.new_store()
    for count in range(6):
        params = (I64,) * count
        text = f"""(module (import "" "h" (func $h {"(param i64)" * count} (result i64)))
          (func (export "f") (result i64) {" ".join(f"(i64.const {i + 1})" for i in range(count))} (call $h)))"""
        host = store.host_function(FuncType(params, (I64,)), lambda *args: int("0" + "".join(map(str, args))))
        assert func(instance(store, wasmtime_engine, text, host)["f"])() == (int("0" + "12345"[:count]),)
    store.close()
