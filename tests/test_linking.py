"""Several modules, the kernel and host functions in one plugin: order, precedence, what runs at the start, what is missing."""

from __future__ import annotations

import re
from typing import Any

import pytest

import extism_engines as extism
from extism_engines import CurrentPlugin, LinkError, Val, ValType
from extism_engines.engines import api
from extism_engines.errors import (
    HostFunctionError,
    InstantiationError,
    TrapError,
    TrapKind,
)
from extism_engines.host.functions import ExplicitFunction, Function
from extism_engines.linking import Linkable, order
from extism_engines.wasm.types import ExternType, FuncType, ImportType

from .support import HELPERS, PRELUDE, binary, plugin, plugin_text

I64 = ValType.I64


def linked(engine: api.Engine, main: str, functions: Any = (), **modules: str) -> extism.Plugin:
    """A plugin of a main module and others, all as text. Two underscores in a name stand for a colon."""
    entries = [{"name": name.replace("__", ":"), "data": binary(text)} for name, text in modules.items()]
    return extism.Plugin({"wasm": [*entries, {"data": binary(main)}]}, engine=engine, functions=functions)


def number(given: int, name: str = "number", namespace: str | None = None) -> Function:
    """A host function that gives a number."""

    def give(_plugin: CurrentPlugin, _inputs: list[Val], outputs: list[Val]) -> None:
        outputs[0].value = given

    return ExplicitFunction(namespace, name, [], [ValType.I32], give)


class Calls:
    """Host function ``extism:host/user::note`` that keeps the numbers it gets."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.function = ExplicitFunction(None, "note", [ValType.I32], [], self._note)

    def _note(self, _plugin: CurrentPlugin, inputs: list[Val], _outputs: list[Val]) -> None:
        self.seen.append(inputs[0].value)


NOTE = '(import "extism:host/user" "note" (func $note (param i32)))'


def noting(number: int, imports: str = "", body: str = "") -> str:
    """A module whose start function notes a number."""
    return f"(module {imports} {NOTE} (func $s (call $note (i32.const {number}))) (start $s) {body})"


# -- order -----------------------------------------------------------------------------------------------------


def linkable(name: str, *imports: str, exports: tuple[str, ...] = ("f",)) -> Linkable:
    """``imports`` are ``module.name``."""
    wanted = tuple(ImportType(module, wanted, FuncType()) for module, _, wanted in (text.partition(".") for text in imports))
    types: dict[str, ExternType] = {export: FuncType() for export in exports}
    return Linkable(name, None, wanted, types)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ([linkable("main")], "main"),
        ([linkable("b"), linkable("main"), linkable("a"), linkable("c")], "a b c main"),
        ([linkable("z"), linkable("n"), linkable("main")], "n z main"),
        ([linkable("a", "z.f"), linkable("z"), linkable("m"), linkable("main")], "z a m main"),
        ([linkable("a", "c.f", "b.f"), linkable("b", "d.f"), linkable("c"), linkable("d"), linkable("main")],
         "d b c a main"),
        ([linkable("a", "main.f"), linkable("main"), linkable("b")], "main a b"),
        # What the other does not export comes from elsewhere, so that is no reason for an order.
        ([linkable("a", "b.other"), linkable("b", "a.f"), linkable("main")], "a b main"),
        ([linkable("a", "a.other"), linkable("main", "main.g")], "a main"),
        ([linkable(""), linkable("B"), linkable("A"), linkable("main", ".f")], " A B main"),
    ],
)  # fmt: skip
def test_order(modules: list[Linkable], expected: str) -> None:
    for given in (modules, modules[::-1]):
        assert " ".join(each.name for each in order(given)) == expected


@pytest.mark.parametrize(
    ("modules", "circle"),
    [
        ([linkable("main", "main.f")], "main -> main"),
        ([linkable("a", "b.f"), linkable("b", "a.f"), linkable("main")], "a -> b -> a"),
        ([linkable("a", "main.f"), linkable("main", "a.f")], "a -> main -> a"),
        ([linkable("a", "b.f"), linkable("b", "c.f"), linkable("c", "d.f"), linkable("d", "b.f"), linkable("main")],
         "b -> c -> d -> b"),
    ],
)  # fmt: skip
def test_circles_are_refused(modules: list[Linkable], circle: str) -> None:
    with pytest.raises(LinkError) as caught:
        order(modules)
    assert str(caught.value) == f"modules import from each other in a circle, which this version cannot link: {circle}"


def test_circles_through_a_plugin(engine: api.Engine) -> None:
    main = '(module (import "a" "f" (func)) (func (export "g")))'
    a = '(module (import "main" "g" (func)) (func (export "f")))'
    with pytest.raises(LinkError, match="^Unable to create Extism plugin: modules import .* circle.*: a -> main -> a"):
        linked(engine, main, a=a)
    own = '(module (import "main" "g" (func)) (func (export "g")))'
    with pytest.raises(LinkError, match="main -> main"):
        linked(engine, own)


def test_start_sections_run_once_in_order(engine: api.Engine) -> None:
    calls = Calls()
    main = noting(0, '(import "a" "f" (func))', '(func (export "run"))')
    a = noting(1, '(import "z" "f" (func))', '(func (export "f"))')
    z, unused = noting(2, "", '(func (export "f"))'), noting(3)
    with linked(engine, main, [calls.function], b=unused, a=a, z=z) as made:
        assert calls.seen == [2, 1, 3, 0]
        made.call("run")
        made.call("run")
        assert calls.seen == [2, 1, 3, 0]
        made.reset()
        assert calls.seen == [2, 1, 3, 0] * 2


# -- precedence ------------------------------------------------------------------------------------------------

GIVES = '(module (func (export "number") (result i32) (i32.const 1)))'
ASKS = '(module (import "{}" "number" (func $number (result i32))) (func (export "run") (result i32) (call $number)))'


def status_of(made: extism.Plugin) -> int:
    """What ``run`` returns."""
    with made:
        try:
            made.call("run")
        except extism.GuestError as error:
            assert error.exit_code is not None
            return error.exit_code
        return 0


def test_a_module_of_the_manifest_goes_before_a_user_function(engine: api.Engine) -> None:
    asks = ASKS.format("extism:host/user")
    user = number(2)
    assert status_of(linked(engine, asks, [user])) == 2
    assert status_of(linked(engine, asks, [user], **{"extism__host/user": GIVES})) == 1
    # Only what the module exports: everything else still comes from the user.
    other = '(module (func (export "other")))'
    assert status_of(linked(engine, asks, [user], **{"extism__host/user": other})) == 2


def test_a_later_user_function_replaces_an_earlier_one(engine: api.Engine) -> None:
    asks = ASKS.format("extism:host/user")
    assert status_of(linked(engine, asks, [number(1), number(2), number(3, "unused")])) == 2
    assert status_of(linked(engine, asks, [number(2), number(1)])) == 1


def test_namespaces_are_exact(engine: api.Engine) -> None:
    functions = [number(1, namespace="a"), number(2, namespace="b"), number(3, namespace="A"), number(4, namespace="")]
    for namespace, expected in [("a", 1), ("b", 2), ("A", 3), ("", 4)]:
        assert status_of(linked(engine, ASKS.format(namespace), functions)) == expected


LOGS = """(module
  (import "extism:host/env" "log_info" (func $log (param i64)))
  (import "extism:host/env" "input_offset" (func $input_offset (result i64)))
  (func (export "run") (call $log (call $input_offset))))"""


def test_a_user_function_replaces_one_of_the_environment(engine: api.Engine) -> None:
    messages: list[str] = []

    def log(plugin: CurrentPlugin, inputs: list[Val], _outputs: list[Val]) -> None:
        messages.append(plugin.input_string(inputs[0]))

    function = ExplicitFunction("extism:host/env", "log_info", [ValType.PTR], [], log)
    with linked(engine, LOGS, [function]) as made:
        made.call("run", "hello")
    assert messages == ["hello"]


def test_a_user_function_replaces_one_of_the_kernel(engine: api.Engine) -> None:
    function = ExplicitFunction(
        "extism:host/env", "input_length", [], [I64], lambda _plugin, _inputs, outputs: setattr(outputs[0], "value", 3)
    )
    text = plugin_text("""
      (func (export "run") (result i32) (i32.wrap_i64 (call $input_length)))""")
    assert status_of(linked(engine, text, [function])) == 3


def test_unused_functions_are_harmless(engine: api.Engine) -> None:
    unused = [number(1, "unused"), number(2, "unused", "elsewhere"), number(3, "f", "main")]
    with linked(engine, '(module (func (export "f") (result i32) (i32.const 0)))', unused) as made:
        assert made.call("f") == b""


def test_unused_modules_are_linked_too(engine: api.Engine) -> None:
    main = '(module (func (export "f")))'
    linked(engine, main, unused=GIVES).close()
    with pytest.raises(LinkError, match="`nowhere::g` has not been defined .* of module `unused`"):
        linked(engine, main, unused='(module (import "nowhere" "g" (func)))')


# -- what is shared --------------------------------------------------------------------------------------------


def test_memories_globals_tables_and_functions_are_shared(engine: api.Engine) -> None:
    provider = """(module
      (memory (export "m") 1) (global (export "g") (mut i64) (i64.const 5)) (global (export "c") i32 (i32.const 9))
      (table (export "t") 2 funcref) (elem (i32.const 1) $nine)
      (func $nine (result i32) (i32.const 9))
      (func (export "sum") (result i32) (i32.add (i32.load (i32.const 8)) (i32.wrap_i64 (global.get 0)))))"""
    second = """(module
      (import "lib" "m" (memory 1)) (import "lib" "g" (global $g (mut i64)))
      (func (export "set") (i32.store (i32.const 8) (i32.const 40)) (global.set $g (i64.const 2))))"""
    main = """(module
      (import "lib" "sum" (func $sum (result i32))) (import "lib" "sum" (func $again (result i32)))
      (import "second" "set" (func $set))
      (import "lib" "t" (table 2 funcref)) (import "lib" "c" (global $c i32)) (import "lib" "m" (memory 1))
      (func (export "run") (result i32)
        (call $set)
        (i32.store8 (i32.const 9) (i32.const 1))
        (if (i32.ne (call $sum) (i32.const 298)) (then unreachable))
        (if (i32.ne (call_indirect (result i32) (i32.const 1)) (global.get $c)) (then unreachable))
        (call $again)))"""
    assert status_of(linked(engine, main, lib=provider, second=second)) == 40 + 256 + 2


def test_a_linked_module_shares_extism_memory(engine: api.Engine) -> None:
    library = f"""(module {PRELUDE} {HELPERS}
      (func (export "twice") (param $h i64)
        (local $n i64) (local $made i64)
        (local.set $n (call $length (local.get $h)))
        (local.set $made (call $alloc (i64.mul (local.get $n) (i64.const 2))))
        (call $store_u8 (local.get $made) (call $load_u8 (local.get $h)))
        (call $store_u8 (i64.add (local.get $made) (local.get $n)) (call $load_u8 (local.get $h)))
        (call $out (local.get $made))))"""
    main = """(module
      (import "library" "twice" (func $twice (param i64)))
      (import "extism:host/env" "input_offset" (func $input_offset (result i64)))
      (func (export "run") (call $twice (call $input_offset))))"""
    with linked(engine, main, library=library) as made:
        assert made.call("run", b"x") == b"xx"
        assert made.call("run", b"y") == b"yy"


def test_an_import_that_is_exported_again(engine: api.Engine) -> None:
    through = '(module (import "extism:host/user" "number" (func $n (result i32))) (export "number" (func $n)))'
    assert status_of(linked(engine, ASKS.format("a"), [number(7)], a=through)) == 7
    twice = through.replace("extism:host/user", "a")
    assert status_of(linked(engine, ASKS.format("b"), [number(8)], a=through, b=twice)) == 8


def test_one_import_many_times(engine: api.Engine) -> None:
    text = '(import "extism:host/user" "number" (func $n{} (result i32)))'
    imports = "".join(text.format(i) for i in range(20))
    calls = "(i32.const 0)"
    for i in range(20):
        calls = f"(i32.add (call $n{i}) {calls})"
    main = f'(module {imports} (func (export "run") (result i32) {calls}))'
    assert status_of(linked(engine, main, [number(2)])) == 40


def test_one_python_function_under_many_names(engine: api.Engine) -> None:
    def give(_plugin: CurrentPlugin, _inputs: list[Val], outputs: list[Val]) -> None:
        outputs[0].value = 3

    functions = [ExplicitFunction(None, name, [], [ValType.I32], give) for name in ("a", "b")]
    functions.append(ExplicitFunction("other", "a", [], [ValType.I32], give))
    imports = """(import "extism:host/user" "a" (func $a (result i32))) (import "extism:host/user" "b" (func $b (result i32)))
      (import "other" "a" (func $c (result i32)))"""
    run = '(func (export "run") (result i32) (i32.add (call $a) (i32.add (call $b) (call $c))))'
    assert status_of(linked(engine, f"(module {imports} {run})", functions)) == 9


def test_many_modules_in_a_row(engine: api.Engine) -> None:
    modules = {"m000": '(module (func (export "number") (result i32) (i32.const 0)))'}
    for index in range(1, 60):
        modules[f"m{index:03}"] = f"""(module (import "m{index - 1:03}" "number" (func $n (result i32)))
          (func (export "number") (result i32) (i32.add (call $n) (i32.const 1))))"""
    assert status_of(linked(engine, ASKS.format("m059"), **modules)) == 59


# -- what runs at the start ------------------------------------------------------------------------------------

COUNTS = """(module (global $n (mut i32) (i32.const 0))
  (func (export "count") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "value") (result i32) (global.get $n)))"""


def test_a_linked_reactor_is_initialised_once(engine: api.Engine) -> None:
    reactor = """(module (import "counts" "count" (func $count (result i32)))
      (func (export "_initialize") (drop (call $count)))
      (func (export "__wasm_call_ctors") unreachable)
      (func (export "number") (result i32) (i32.const 0)))"""
    main = """(module (import "counts" "value" (func $value (result i32)))
      (import "reactor" "number" (func $number (result i32)))
      (func (export "run") (result i32) (i32.add (call $value) (call $number))))"""
    with linked(engine, main, counts=COUNTS, reactor=reactor) as made:
        for _ in range(2):
            with pytest.raises(extism.GuestError, match="^Error code: 1$"):
                made.call("run")
    # Nobody imports from it, and still it is initialised.
    lonely = main.replace('(import "reactor" "number" (func $number (result i32)))', "").replace(
        "(call $number)", "(i32.const 0)")  # fmt: skip
    assert status_of(linked(engine, lonely, counts=COUNTS, reactor=reactor)) == 1


def test_main_is_initialised_once(engine: api.Engine) -> None:
    main = """(module (import "counts" "count" (func $count (result i32))) (import "counts" "value" (func $v (result i32)))
      (func $s (drop (call $count))) (start $s)
      (func (export "_initialize") (drop (call $count)))
      (func (export "run") (result i32) (call $v)))"""
    with linked(engine, main, counts=COUNTS) as made:
        for _ in range(2):
            with pytest.raises(extism.GuestError, match="^Error code: 2$"):
                made.call("run")


def test_an_initialiser_of_a_linked_module_with_parameters_is_refused(engine: api.Engine) -> None:
    reactor = '(module (func (export "_initialize") (param i32)))'
    with pytest.raises(InstantiationError, match=r"`_initialize` of module `a` must be \(\) -> \(\), not \(i32\) -> \(\)"):
        linked(engine, '(module (func (export "f")))', a=reactor)
    # Something else of that name is no initialiser.
    linked(engine, '(module (func (export "f")))', a='(module (global (export "_initialize") i32 (i32.const 0)))').close()


def test_a_linked_command_is_an_ordinary_module(engine: api.Engine) -> None:
    command = COUNTS.replace("(func (export", '(func (export "_start") unreachable) (func (export', 1)
    main = """(module (import "command" "count" (func $count (result i32)))
      (func (export "run") (result i32) (drop (call $count)) (call $count)))"""
    assert status_of(linked(engine, main, command=command)) == 2


START_VARS = """
  (import "extism:host/env" "var_set" (func $var_set (param i64 i64)))
  (import "extism:host/env" "var_get" (func $var_get (param i64) (result i64)))
  (import "extism:host/env" "config_get" (func $config_get (param i64) (result i64)))
  (import "extism:host/env" "get_log_level" (func $get_log_level (result i32)))"""


def test_host_functions_work_in_start_sections_and_initialisers(engine: api.Engine) -> None:
    """Copies a config value into a variable before there is any call."""
    body = """
      (data (i32.const 0) "keyagain")
      (func $s (call $var_set (call $copy (i32.const 0) (i32.const 3)) (call $config_get (call $copy (i32.const 0) (i32.const 3)))))
      (start $s)
      (func (export "_initialize") (call $var_set (call $copy (i32.const 3) (i32.const 5))
        (call $var_get (call $copy (i32.const 0) (i32.const 3)))))
      (func (export "run") (call $out (call $var_get (call $copy (i32.const 3) (i32.const 5)))))"""
    with plugin(engine, body, START_VARS, config={"key": "value"}) as made:
        assert dict(made.vars) == {"key": b"value"}
        assert made.call("run") == b"value"
        assert dict(made.vars) == {"key": b"value", "again": b"value"}


def test_a_user_function_works_in_a_start_section_of_a_linked_module(engine: api.Engine) -> None:
    names: list[str] = []

    def name_it(plugin: CurrentPlugin, inputs: list[Val], outputs: list[Val]) -> None:
        names.append(plugin.input_string(inputs[0]))
        plugin.return_string(outputs[0], names[-1] * 2)

    library = f"""(module {PRELUDE} (import "extism:host/user" "name_it" (func $name_it (param i64) (result i64))) {HELPERS}
      (data (i32.const 0) "ab") (global $h (mut i64) (i64.const 0)) (global $n (mut i64) (i64.const 0))
      (func $s (global.set $n (call $length (call $name_it (call $copy (i32.const 0) (i32.const 2)))))) (start $s)
      (func (export "number") (result i32) (i32.wrap_i64 (global.get $n))))"""
    function = ExplicitFunction(None, "name_it", [I64], [I64], name_it)
    assert status_of(linked(engine, ASKS.format("library"), [function], library=library)) == 4
    assert names == ["ab"]


def test_what_fails_at_the_start(engine: api.Engine) -> None:
    traps = "(module (func $s unreachable) (start $s))"
    for modules in ({"a": traps}, {}):
        main = traps if not modules else '(module (func (export "f")))'
        with pytest.raises(TrapError, match="^Unable to create Extism plugin: .*unreachable") as caught:
            linked(engine, main, **modules)
        assert caught.value.kind is TrapKind.UNREACHABLE
    reactor = '(module (func (export "_initialize") unreachable))'
    with pytest.raises(TrapError, match="^Unable to create Extism plugin: "):
        linked(engine, '(module (func (export "f")))', a=reactor)


@pytest.mark.parametrize("raised", [ValueError("no"), KeyboardInterrupt()])
def test_a_host_function_that_raises_at_the_start(engine: api.Engine, raised: BaseException) -> None:
    def note(*_: Any) -> None:
        raise raised

    function = ExplicitFunction(None, "note", [ValType.I32], [], note)
    for attempt in range(2):
        main = noting(1) if attempt else '(module (func (export "f")))'
        modules = {} if attempt else {"a": noting(1)}
        with pytest.raises((HostFunctionError, KeyboardInterrupt)) as caught:
            linked(engine, main, [function], **modules)
        assert (caught.value if isinstance(raised, KeyboardInterrupt) else caught.value.__cause__) is raised


# -- what is missing or does not fit ---------------------------------------------------------------------------


def fault(engine: api.Engine, main: str, functions: Any = (), **modules: str) -> str:
    """What is said about a plugin that cannot be linked."""
    with pytest.raises(LinkError) as caught:
        linked(engine, main, functions, **modules)
    text = str(caught.value)
    assert text.startswith("Unable to create Extism plugin: ")
    return text.removeprefix("Unable to create Extism plugin: ")


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        ('"wasi_snapshot_preview1" "fd_write"', "this version has no WASI"),
        ('"wasi_unstable" "fd_write"', "this version has no WASI"),
        ('"extism:host/user" "f"', "give a host function of this name in functions=[…]"),
        ('"env" "extism_alloc"', "plugins made before Extism 1.0 cannot be run"),
        ('"a" "nothing"', "module `a` has no such export"),
        ('"b" "f"', "the manifest has no module `b`, functions=[…] no such function"),
        ('"" ""', "the manifest has no module ``, functions=[…] no such function"),
    ],
)
def test_a_missing_import_names_its_place_and_a_remedy(engine: api.Engine, wanted: str, remedy: str) -> None:
    text = fault(engine, f"(module (import {wanted} (func (param i32))))", a=GIVES)
    name = wanted.replace('" "', "::").strip('"')
    assert text == f"unknown import: `{name}` has not been defined ({remedy}; import `{name}` of module `main`)"


def test_the_same_with_wasi_switched_on(engine: api.Engine) -> None:
    text = '(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))))'
    with pytest.raises(LinkError, match=r"this version has no WASI"):
        extism.Plugin(binary(text), wasi=True, engine=engine)
    extism.Plugin(binary('(module (func (export "f")))'), wasi=True, engine=engine).close()


def test_everything_that_is_missing_is_reported_at_once(engine: api.Engine) -> None:
    main = """(module (import "extism:host/user" "one" (func)) (import "extism:host/user" "one" (func))
      (import "extism:host/user" "two" (func (result i32))) (import "extism:host/env" "nothing" (func (param i64)))
      (import "a" "number" (func (result i64))))"""
    text = fault(engine, main, a=GIVES, b='(module (import "c" "m" (memory 1)))')
    for expected in [
        "unknown import: `extism:host/user::one` has not been defined",
        "unknown import: `extism:host/user::two` has not been defined",
        "Invalid function import from extism:host/env: nothing (i64) -> ()",
        "types incompatible: expected type () -> (i64), found type () -> (i32) (import `a::number` of module `main`)",
        "unknown import: `c::m` has not been defined",
    ]:
        assert text.count(expected) == 1
    assert "may be made for a newer version of Extism" in text


NOT_THE_KERNEL_S = "linked modules cannot access non-function exports of extism kernel (import `extism:host/env::{}` of "


@pytest.mark.parametrize(
    ("name", "kind"),
    [("memory", "(memory 1)"), ("alloc", "(memory 1)"), ("extism_context", "(global (mut i64))"),
     ("alloc", "(table 1 funcref)"), ("nothing", "(global i32)")],
)  # fmt: skip
def test_the_kernel_gives_functions_only(engine: api.Engine, name: str, kind: str) -> None:
    main = f'(module (import "extism:host/env" "{name}" {kind}))'
    assert fault(engine, main) == NOT_THE_KERNEL_S.format(name) + "module `main`)"
    assert fault(engine, "(module)", a=main) == NOT_THE_KERNEL_S.format(name) + "module `a`)"


@pytest.mark.parametrize("name", ["begin", "memory", "call", "nothing", "extism-engines:start", ""])
def test_functions_that_the_environment_does_not_have(engine: api.Engine, name: str) -> None:
    text = fault(engine, f'(module (import "extism:host/env" "{name}" (func (param i32 f64))))')
    assert text.startswith(f"Invalid function import from extism:host/env: {name} (i32 f64) -> ()\n\n")


ENVIRONMENT = {
    "alloc": "(param i64) (result i64)", "free": "(param i64)", "length": "(param i64) (result i64)",
    "length_unsafe": "(param i64) (result i64)", "load_u8": "(param i64) (result i32)",
    "load_u64": "(param i64) (result i64)", "store_u8": "(param i64 i32)", "store_u64": "(param i64 i64)",
    "input_offset": "(result i64)", "input_length": "(result i64)", "input_load_u8": "(param i64) (result i32)",
    "input_load_u64": "(param i64) (result i64)", "input_set": "(param i64 i64)", "output_set": "(param i64 i64)",
    "output_offset": "(result i64)", "output_length": "(result i64)", "error_set": "(param i64)",
    "error_get": "(result i64)", "memory_bytes": "(result i64)", "reset": "", "config_get": "(param i64) (result i64)",
    "var_get": "(param i64) (result i64)", "var_set": "(param i64 i64)",
    "http_request": "(param i64 i64) (result i64)", "http_status_code": "(result i32)", "http_headers": "(result i64)",
    "log_trace": "(param i64)", "log_debug": "(param i64)", "log_info": "(param i64)", "log_warn": "(param i64)",
    "log_error": "(param i64)", "get_log_level": "(result i32)",
}  # fmt: skip


def test_the_whole_environment_can_be_imported(engine: api.Engine) -> None:
    imports = "".join(f'(import "extism:host/env" "{name}" (func {type}))' for name, type in ENVIRONMENT.items())
    linked(engine, f"(module {imports})").close()


def test_signatures_must_match_exactly(engine: api.Engine) -> None:
    for name in ENVIRONMENT:
        text = fault(engine, f'(module (import "extism:host/env" "{name}" (func (param f32 f32) (result f32))))')
        expected = rf"types incompatible: expected type \(f32 f32\) -> \(f32\), found type .* \(import `.*::{name}` of .*"
        assert re.fullmatch(expected, text)


PROVIDER = """(module (memory (export "m") 2 4) (global (export "g") (mut i32) (i32.const 0))
  (global (export "c") i32 (i32.const 0)) (table (export "t") 2 4 funcref) (func (export "f") (param i32) (result i64)
  (i64.const 0)))"""


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ('"m" (memory 1)', True),
        ('"m" (memory 2 4)', True),
        ('"m" (memory 0 5)', True),
        ('"m" (memory 3)', False),
        ('"m" (memory 2 3)', False),
        ('"m" (func)', False),
        ('"m" (table 1 funcref)', False),
        ('"g" (global (mut i32))', True),
        ('"g" (global i32)', False),
        ('"g" (global (mut i64))', False),
        ('"c" (global i32)', True),
        ('"c" (global (mut i32))', False),
        ('"c" (global f32)', False),
        ('"t" (table 1 funcref)', True),
        ('"t" (table 2 4 funcref)', True),
        ('"t" (table 3 funcref)', False),
        ('"t" (table 1 3 funcref)', False),
        ('"t" (table 1 externref)', False),
        ('"f" (func (param i32) (result i64))', True),
        ('"f" (func (param i32))', False),
        ('"f" (func (param i64) (result i32))', False),
        ('"f" (global i32)', False),
    ],
)
def test_types_of_every_kind(engine: api.Engine, wanted: str, fits: bool) -> None:
    main = f'(module (import "a" {wanted}))'
    if fits:
        linked(engine, main, a=PROVIDER).close()
    else:
        assert re.fullmatch(
            r"types incompatible: expected type \S.*, found type \S.* \(import `a::.` of module `main`\)",
            fault(engine, main, a=PROVIDER),
        )


def test_a_user_function_of_the_wrong_type(engine: api.Engine) -> None:
    text = fault(engine, '(module (import "extism:host/user" "number" (func (param i32))))', [number(1)])
    assert text == (
        "types incompatible: expected type (i32) -> (), found type () -> (i32)"
        " (import `extism:host/user::number` of module `main`)"
    )


def test_exception_tags_are_refused(engine: api.Engine) -> None:
    if "exceptions" not in engine.capabilities.proposals:
        pytest.skip(f"{engine.name} has no exceptions")
    text = fault(engine, '(module (import "a" "t" (tag)))', a='(module (tag (export "t")))')
    assert text == "this version cannot link exception tags (import `a::t` of module `main`)"


def test_what_rewriting_adds_is_out_of_reach(engine: api.Engine) -> None:
    a = "(module (func $s) (start $s))"
    assert "has not been defined" in fault(engine, '(module (import "a" "extism-engines:start" (func)))', a=a)
    with pytest.raises(LinkError, match="reserved"):
        linked(engine, '(module (import "extism-engines" "stack" (global (mut i32))))')
    with pytest.raises(LinkError, match="reserved"):
        linked(engine, '(module (func (export "extism-engines:start")))')


def test_a_failed_plugin_leaves_the_engine_usable(engine: api.Engine) -> None:
    for _ in range(3):
        fault(engine, ASKS.format("extism:host/user"))
        assert status_of(linked(engine, ASKS.format("extism:host/user"), [number(5)])) == 5
