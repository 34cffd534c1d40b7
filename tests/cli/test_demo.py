"""``extism-engines demo``, on every engine that can run here."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

import extism_engines
from extism_engines.cli import measure
from extism_engines.errors import EngineUnavailableError

from .conftest import GUESTS, Run

AVAILABLE = [info.name for info in extism_engines.engines() if info.available]
WASMER = [name for name in AVAILABLE if name.startswith("wasmer")]


@pytest.fixture(autouse=True)
def _few_warm_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_CALLS", 3)


def outcomes(run: dict[str, Any], plugin: str) -> list[tuple[str, Any, Any, Any]]:
    (found,) = (guest for guest in run["plugins"] if guest["name"] == plugin)
    return [(call["function"], call["output"], call["error"], call["text"]) for call in found["calls"]]


COUNTED = [("count_vowels", f'{{"count":3,"total":{total},"vowels":"aeo"}}', None, None) for total in (3, 6)]
GREETED = ("greet", "Welcome, World!", None, None)


def test_json_has_what_every_engine_did(run: Run) -> None:
    result = run("demo", "--json")
    assert (result.code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert [engine["name"] for engine in shown["engines"]] == AVAILABLE
    assert [plugin["name"] for plugin in shown["plugins"]] == ["c", "assemblyscript", "wat"]
    assert shown["differences"] == []
    assert shown["agreed"] is True
    for engine in shown["engines"]:
        failed = ("fail", None, "GuestError", "failed as asked: demo")
        assert outcomes(engine, "c") == [GREETED, *COUNTED, failed]
        assert outcomes(engine, "assemblyscript") == [GREETED, *COUNTED]
        assert outcomes(engine, "wat") == [
            GREETED,
            ("echo", "any \\x00 bytes \\xff", None, None),
            ("trap", None, "TrapError", "wasm trap: unreachable"),
        ]
        for plugin in engine["plugins"]:
            assert plugin["compile_seconds"] > 0
            assert plugin["create_seconds"] > 0
            assert plugin["failure"] is None
            has_total = plugin["name"] != "wat"
            assert plugin["vars_base64"] == ({"total": base64.b64encode(b"6").decode()} if has_total else {})


def test_json_tells_bytes_and_times(run: Run) -> None:
    shown = json.loads(run("demo", "--json", "--engine", "wasmtime").stdout)
    calls = {plugin["name"]: plugin["calls"] for plugin in shown["engines"][0]["plugins"]}
    echo = calls["wat"][1]
    assert base64.b64decode(echo["input_base64"]) == base64.b64decode(echo["output_base64"]) == b"any \0 bytes \xff"
    assert echo["warm_median_seconds"] > 0
    assert echo["first_seconds"] > 0
    assert echo["warm_calls"] == 3
    # Neither a first call nor further ones.
    second_count = calls["c"][2]
    assert (second_count["first_seconds"], second_count["warm_calls"]) == (None, 0)
    trap = calls["wat"][2]
    assert trap["first_seconds"] > 0
    assert (trap["warm_median_seconds"], trap["exit_code"]) == (None, 134)
    assert shown["agreed"] is None


def test_table(run: Run) -> None:
    result = run("demo")
    assert (result.code, result.stderr) == (0, "")
    lines = [line.rstrip() for line in result.text.splitlines()]
    for name in AVAILABLE:
        version = next(info.version for info in extism_engines.engines() if info.name == name)
        assert any(line.split() == [name, "version", version] for line in lines)
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("Times are"))]
    assert all(len(line) <= 100 for line in table), max(table, key=len)
    for shown in (
        "Welcome, World!",
        '{"count":3,"total":6,"vowels":"aeo"}',
        "any \\x00 bytes \\xff",
        "GuestError: failed as asked: demo",
        "TrapError: wasm trap: unreachable",
    ):
        assert sum(shown in line for line in table) == len(AVAILABLE) * (
            {"Welcome, World!": 3, '{"count":3,"total":6,"vowels":"aeo"}': 2}.get(shown, 1)
        )
    assert lines[-1] == f"The {len(AVAILABLE)} engines agree on all 13 results: every output, error and variable."


def test_only_the_engines_that_are_named(run: Run) -> None:
    arguments = ("--engine", "wasmtime:pulley", "--engine", "wasmtime", "--engine", "wasmtime:pulley")
    shown = json.loads(run("demo", "--json", *arguments).stdout)
    assert [engine["name"] for engine in shown["engines"]] == ["wasmtime:pulley", "wasmtime"]


def test_one_engine_agrees_with_nobody(run: Run) -> None:
    result = run("demo", "--engine", "wasmtime")
    assert result.code == 0
    assert result.text.splitlines()[-1] == "Only wasmtime ran (13 results): there is nothing to compare it with."


@pytest.mark.skipif(not WASMER, reason="no Wasmer can run here")
def test_an_alias_is_the_engine_that_it_stands_for(run: Run) -> None:
    shown = json.loads(run("demo", "--json", "--engine", "wasmer", "--engine", WASMER[0]).stdout)
    assert [engine["name"] for engine in shown["engines"]] == [WASMER[0]]


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="PyPI's wasmer is for CPython 3.10 and older")
def test_wasmer_is_among_them(run: Run) -> None:
    if not WASMER:
        pytest.skip("PyPI's wasmer is not installed")
    shown = json.loads(run("demo", "--json").stdout)
    assert {"wasmtime", "wasmer-pypi"} <= {engine["name"] for engine in shown["engines"]}
    assert shown["agreed"] is True


# -- what is missing ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_wasmer")
def test_a_missing_wasmer_is_stated(run: Run) -> None:
    result = run("demo")
    assert result.code == 0
    assert "wasmer-pypi cannot run here: the moon is in the way\n  remedy: wait a week\n" in result.text
    assert "No Wasmer can run here" in result.text
    unavailable = json.loads(run("demo", "--json").stdout)["unavailable"]
    assert [info["name"] for info in unavailable] == ["wasmer-pypi", "wasmer-pypi:singlepass"]


@pytest.mark.usefixtures("no_wasmer")
def test_an_engine_that_is_named_must_be_there(run: Run) -> None:
    result = run("demo", "--engine", "wasmtime", "--engine", "wasmer")
    assert (result.code, result.stdout) == (5, b"")
    assert "the moon is in the way" in result.stderr


def test_no_engine_at_all(run: Run, registry: Any) -> None:
    def factory(variant: str | None) -> Any:
        raise EngineUnavailableError(reason="no coal", remedy="buy some")

    registry._registry._families = [registry._Family("wasmtime", lambda: factory, ())]
    result = run("demo")
    assert (result.code, result.stdout) == (5, b"")
    assert "no engine can run here" in result.stderr
    assert "no coal" in result.stderr


# -- what differs ------------------------------------------------------------------------------------------


def two_runs(**changed: Any) -> list[measure.EngineRun]:
    call = measure.Call("greet", b"World")
    result = measure.CallResult(call, measure.Outcome(output=b"Hi"), first_seconds=1.0)
    guest = measure.GuestRun("c", 1.0, 1.0, calls=(result,), vars={"total": b"1"})
    return [
        measure.EngineRun("one", "1", (guest,)),
        measure.EngineRun("two", "2", (attrs.evolve(guest, compile_seconds=9.0, **changed),)),
    ]


def result_of(**outcome: Any) -> tuple[measure.CallResult, ...]:
    return (measure.CallResult(measure.Call("greet", b"World"), measure.Outcome(**outcome)),)


def test_times_are_not_compared() -> None:
    assert measure.compare(two_runs()) == measure.Comparison(2, ())


@pytest.mark.parametrize(
    ("changed", "place", "text"),
    [
        ({"calls": result_of(output=b"Ho")}, "c, call 1, greet", "one: b'Hi'; two: b'Ho'"),
        ({"calls": result_of(error="TrapError", text="oh")}, "c, call 1, greet", "one: b'Hi'; two: TrapError: oh"),
        ({"calls": ()}, "c, call 1, greet", "one: b'Hi'; two: nothing"),
        ({"vars": {"total": b"2"}}, "variables of c", "one: {'total': b'1'}; two: {'total': b'2'}"),
    ],
)
def test_a_difference_is_found(changed: dict[str, Any], place: str, text: str) -> None:
    assert measure.compare(two_runs(**changed)).differences == (f"{place}: {text}",)


def test_errors_are_compared_by_class_and_text() -> None:
    for one, two in (
        ({"error": "TrapError", "text": "a"}, {"error": "GuestError", "text": "a"}),
        ({"error": "GuestError", "text": "a"}, {"error": "GuestError", "text": "b"}),
        ({"error": "GuestError", "text": "a", "exit_code": 1}, {"error": "GuestError", "text": "a", "exit_code": 2}),
    ):
        first, second = two_runs()
        runs = [
            attrs.evolve(first, guests=(attrs.evolve(first.guests[0], calls=result_of(**one)),)),
            attrs.evolve(second, guests=(attrs.evolve(second.guests[0], calls=result_of(**two)),)),
        ]
        assert len(measure.compare(runs).differences) == 1


def test_a_plugin_that_one_engine_cannot_load_differs() -> None:
    failed = {"failure": measure.Outcome(error="LinkError", text="no"), "calls": (), "vars": {}}
    comparison = measure.compare(two_runs(**failed))
    assert comparison.compared == 3
    assert any("loading c: one: nothing; two: LinkError: no" in line for line in comparison.differences)


def test_disagreement_is_said_and_has_its_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that computes something else: the config is changed between the two."""
    real = measure._run_guest

    def run_guest(engine: Any, guest: measure.Guest) -> measure.GuestRun:
        if engine.name == "wasmtime:pulley":
            monkeypatch.setattr(measure, "CONFIG", {"greeting": "Hallo"})
        return real(engine, guest)

    monkeypatch.setattr(measure, "_run_guest", run_guest)
    arguments = ("--engine", "wasmtime", "--engine", "wasmtime:pulley")
    result = run("demo", *arguments)
    assert result.code == 1
    assert "wat, call 1, greet: wasmtime: b'Welcome, World!'; wasmtime:pulley: b'Hallo, World!'" in result.text
    # Three greetings; the vowels, which are others now, in four counts; but not the variables, by luck of the input.
    assert result.text.splitlines()[-1] == "The engines do NOT agree: 7 of 13 results differ, see above."


def test_a_plugin_that_cannot_be_loaded_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = measure.Guest("broken", "none", b"\0asm\x01\0\0\0\xff", ("greet",))
    monkeypatch.setattr("extism_engines.cli.demo.load_guests", lambda: [broken])
    result = run("demo", "--engine", "wasmtime")
    (row,) = (line for line in result.text.splitlines() if line.startswith("  broken"))
    assert "ModuleError: Unable to compile Extism plugin: " in row


# -- the plugins themselves --------------------------------------------------------------------------------


def test_guests_are_those_of_the_suite() -> None:
    guests = measure.load_guests()
    assert {guest.name: guest.wasm for guest in guests} == {
        guest.name: (GUESTS / guest.name / "guest.wasm").read_bytes() for guest in guests
    }


def test_every_call_of_the_demo_is_made_somewhere() -> None:
    exported = {name for guest in measure.load_guests() for name in guest.exports}
    assert {call.function for call in measure.CALLS} <= exported


def test_warm_calls_stop_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_CALLS", 1_000_000)
    monkeypatch.setattr(measure, "_WARM_SECONDS", 0.0)
    (wat,) = (guest for guest in measure.load_guests() if guest.name == "wat")
    engine = extism_engines.CompiledPlugin(wat.wasm, engine="wasmtime").engine
    (guest,) = measure.run_on(engine, [wat]).guests
    assert [result.warm_calls for result in guest.calls] == [1, 1, 0]


def test_suite_beside_the_package_or_in_it() -> None:
    assert Path(str(measure._guests_folder())).joinpath("guests.toml").is_file()
