"""What is particular about PyPI's wasmer."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

import extism_engines as extism
from extism_engines import errors, wasm
from extism_engines.engines import api
from extism_engines.errors import TrapKind

from ..support import HANDLE_TO_HANDLE, binary, func, plugin, plugin_text
from .test_wasmtime import run_python


def budgeted(engine: api.Engine, store: api.Store, text: str, *imports: api.Extern) -> dict[str, Any]:
    """Exports of a module that counts the stack it uses."""
    prepared = wasm.prepare(binary(text), wasm.Needs(stack_budget=True))
    module = engine.compile(prepared.wasm)
    budget = [store.stack_budget(prepared.stack_reserve)] if len(module.imports) > len(imports) else []
    return dict(store.instantiate(module, [*imports, *budget]).exports)


LOCALS = "(local " + "i64 " * 2000 + ")"

RECURSIONS = {
    "plain": '(module (func $f (export "f") (call $f)))',
    "deep operands": f'(module (func $f (export "f") (result i64) {"(i64.add (i64.const 1) " * 60} (call $f) {")" * 60}))',
    "many locals": f'(module (func $f (export "f") {LOCALS} (local.set 1999 (i64.const 1)) (call $f)))',
    "mutual": '(module (func $f (export "f") (call $g)) (func $g (call $f)))',
    "indirect": '(module (table funcref (elem $f)) (func $f (export "f") (call_indirect (i32.const 0))))',
}


@pytest.mark.parametrize("name", RECURSIONS)
def test_recursion_ends_in_a_trap(wasmer_engine: api.Engine, name: str) -> None:
    store = wasmer_engine.new_store()
    exports = budgeted(wasmer_engine, store, RECURSIONS[name])
    for _ in range(3):
        with pytest.raises(errors.TrapError) as caught:
            func(exports["f"])()
        assert caught.value.kind is TrapKind.STACK_OVERFLOW
        assert str(caught.value) == "wasm trap: call stack exhausted"
    store.close()


def test_recursion_through_the_host_leaves_python_whole(wasmer_engine: api.Engine) -> None:
    """Every `finally` runs and every lock is free, whatever level the stack ends at."""
    lock = threading.Lock()
    depth = [0, 0]

    @extism.host_fn(name="deeper", signature=([], []))
    def deeper(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        depth[0] += 1
        depth[1] = max(depth)
        try:
            with lock:
                pass
            inner = plugins[depth[0] % len(plugins)] if depth[0] < len(plugins) else None
            if inner is not None:
                inner.call("f")
        finally:
            depth[0] -= 1

    body = """(func $f (param $n i32) (if (i32.eqz (local.get $n)) (then (call $deeper) (return))) (call $f (i32.sub (local.get $n) (i32.const 1))))
      (func (export "f") (call $f (i32.const 20000)))"""
    imports = '(import "extism:host/user" "deeper" (func $deeper))'
    compiled = extism.CompiledPlugin(binary(plugin_text(body, imports)), engine=wasmer_engine, functions=[deeper])
    plugins = [extism.Plugin(compiled) for _ in range(60)]
    for _ in range(20):
        with pytest.raises(extism.HostFunctionError) as caught:
            plugins[0].call("f")
        cause: BaseException | None = caught.value
        while isinstance(cause, extism.HostFunctionError):
            cause = cause.__cause__
        # The last call ran out of stack, or was not begun for want of it.
        assert isinstance(cause, extism.CallError)
        assert "stack" in str(cause)
        assert depth[0] == 0
        assert not lock.locked()
    assert depth[1] > 1
    for made in plugins:
        made.close()


def test_small_stacks_have_small_budgets(wasmer_engine: api.Engine) -> None:
    """Also in threads of 256 KiB recursion is a trap, and with next to nothing left a call is not begun."""
    compiled = extism.CompiledPlugin(
        binary(
            "(module (func $f (param i32) (result i32) (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))"
            " (else (call $f (i32.sub (local.get 0) (i32.const 1))))))"
            ' (func (export "shallow") (result i32) (call $f (i32.const 100)))'
            ' (func (export "deep") (result i32) (call $f (i32.const 1000000000))))'
        ),
        engine=wasmer_engine,
        functions=[],
    )
    found: dict[int, Any] = {}

    def use(size: int) -> None:
        try:
            with extism.Plugin(compiled) as made:
                assert made.call("shallow") == b""
                for _ in range(3):
                    with pytest.raises(extism.TrapError) as caught:
                        made.call("deep")
                    assert caught.value.kind is TrapKind.STACK_OVERFLOW
                found[size] = "trap"
        except BaseException as error:
            found[size] = error

    for size in (256 << 10, 512 << 10, 1 << 20, 16 << 20):
        before = threading.stack_size(size)
        try:
            thread = threading.Thread(target=use, args=(size,))
            thread.start()
            thread.join()
        finally:
            threading.stack_size(before)
    assert {size: str(result) for size, result in found.items() if result != "trap"} == {}


def test_the_budget_is_full_again_after_every_end(wasmer_engine: api.Engine) -> None:
    store = wasmer_engine.new_store()
    budget = store.stack_budget(0)

    def host(value: int) -> int:
        if value == 3:
            raise KeyError
        return value

    text = """(module (import "" "host" (func $host (param i64) (result i64)))
      (func $deeper (param i64) (result i64) (call $host (local.get 0)))
      (func $end (param i64) (result i64) (if (i64.eq (local.get 0) (i64.const 2)) (then unreachable)) (call $deeper (local.get 0)))
      (func (export "f") (param i64) (result i64) (call $end (local.get 0))))"""
    exports = budgeted(wasmer_engine, store, text, store.host_function(HANDLE_TO_HANDLE, host))
    f = func(exports["f"])
    assert f(1) == (1,)
    full = budget.get()
    assert full > 100_000
    for value, kind in ((2, errors.TrapError), (3, KeyError)):
        with pytest.raises(kind):
            f(value)
        assert budget.get() < full
        assert f(1) == (1,)
        assert budget.get() == full
    store.close()


def test_a_guests_own_unreachable_stays_one(wasmer_engine: api.Engine) -> None:
    store = wasmer_engine.new_store()
    exports = budgeted(wasmer_engine, store, '(module (func $g unreachable) (func (export "f") (call $g)))')
    with pytest.raises(errors.TrapError) as caught:
        func(exports["f"])()
    assert caught.value.kind is TrapKind.UNREACHABLE
    store.close()


def test_simd_is_refused_with_the_reason(wasmer_engine: api.Engine) -> None:
    text = '(module (func (export "f") (drop (i8x16.splat (i32.const 1)))))'
    with pytest.raises(extism.UnsupportedFeatureError, match=r"needs simd.*computes wrong results"):
        extism.Plugin(binary(text), engine=wasmer_engine, functions=[])


@pytest.mark.parametrize(
    ("text", "proposal"),
    [
        ("(module (memory 1) (memory 1))", "multi-memory"),
        ("(module (func $f (return_call $f)))", "tail-call"),
        ("(module (memory i64 1))", "memory64"),
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads"),
        ("(module (tag $t) (func (throw $t)))", "exceptions"),
    ],
)
def test_newer_proposals_are_refused_by_name(wasmer_engine: api.Engine, text: str, proposal: str) -> None:
    with pytest.raises(extism.UnsupportedFeatureError, match=proposal):
        extism.Plugin(binary(text), engine=wasmer_engine, functions=[])


def test_modules_travel_between_threads(wasmer_engine: api.Engine) -> None:
    module = wasmer_engine.compile(binary('(module (func (export "f") (result i32) (i32.const 42)))'))
    found: list[Any] = []

    def use() -> None:
        store = wasmer_engine.new_store(module)
        found.append(func(store.instantiate(module, []).exports["f"])())
        store.close()

    for _ in range(3):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    use()
    assert found == [(42,)] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_cannot_compile_and_says_so(wasmer_engine: api.Engine) -> None:
    run = run_python(f"""
        import os
        import extism_engines as extism
        text = b'(module (func (export "f") (result i32) (i32.const 0)))'
        kept = extism.Plugin(text, engine={wasmer_engine.name!r})
        child = os.fork()
        if not child:
            kept.call("f")
            extism.Plugin(kept.compiled_plugin).call("f")
            try:
                extism.Plugin(text, engine={wasmer_engine.name!r})
            except extism.EngineFailureError as error:
                os._exit(7 if "before the fork" in str(error) else 1)
            os._exit(2)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert run.stdout.strip() == "7", run.stderr


def test_the_llvm_compiler_is_never_imported(wasmer_engine: api.Engine) -> None:
    assert wasmer_engine.name.startswith("wasmer-pypi")
    assert "wasmer_compiler_llvm" not in sys.modules


def test_a_plugin_dropped_by_another_thread_harms_nobody(wasmer_engine: api.Engine) -> None:
    held = [plugin(wasmer_engine, '(func (export "f"))') for _ in range(20)]
    for made in held:
        made.call("f")

    def drop() -> None:
        while held:
            held.pop()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    with plugin(wasmer_engine, '(func (export "f"))') as made:
        assert made.call("f") == b""
