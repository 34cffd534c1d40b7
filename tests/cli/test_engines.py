"""``extism-engines engines``."""

from __future__ import annotations

import json
from typing import Any

import pytest

import extism_engines
from extism_engines.errors import EngineUnavailableError

from .conftest import Run

FOUND = extism_engines.engines()


def test_table_has_every_engine(run: Run) -> None:
    result = run("engines")
    assert (result.code, result.stderr) == (0, "")
    for info in FOUND:
        (row,) = (line for line in result.text.splitlines() if line.split()[:1] == [info.name] and "cannot" not in line)
        assert (info.version or "not available") in row


def test_proposals_are_all_there(run: Run) -> None:
    words = run("engines").text.replace(",", " ").split()
    for info in FOUND:
        if info.capabilities is not None:
            assert info.capabilities.proposals <= set(words)


@pytest.mark.usefixtures("no_wasmer")
def test_says_why_an_engine_cannot_run_and_what_to_do(run: Run) -> None:
    text = run("engines").text
    assert "wasmer-pypi cannot run here: the moon is in the way\n  remedy: wait a week\n" in text
    assert "No Wasmer can run here" in text
    assert "No engine can run here" not in text


@pytest.mark.parametrize("remedy", [None, "buy coal"])
def test_engine_of_another_package(run: Run, registry: Any, remedy: str | None) -> None:
    def factory(variant: str | None) -> Any:
        raise EngineUnavailableError(reason="no coal", remedy=remedy)

    registry._registry._families = [registry._Family("steam", lambda: factory, ("coal",))]
    result = run("engines")
    assert result.code == 0
    expected = f"cannot run here: no coal\n  remedy: {remedy or 'none is known'}\n"
    assert f"steam {expected}" in result.text
    assert f"steam:coal {expected}" in result.text
    assert "No engine can run here" in result.text
    assert "default: none (the first of " in result.text


# -- which one is taken, and why ---------------------------------------------------------------------------


def default_line(text: str) -> str:
    return text.splitlines()[-1]


def test_default_is_automatic(run: Run) -> None:
    text = run("engines").text
    chosen = extism_engines.Plugin(b"\0asm\x01\0\0\0").engine
    assert default_line(text).startswith(f"default: {chosen} (the first of ")
    assert f"{chosen} (default)" in text


def test_default_by_environment_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTISM_ENGINE", "wasmtime:pulley")
    text = run("engines").text
    assert default_line(text) == "default: wasmtime:pulley (by the environment variable EXTISM_ENGINE)"
    assert "wasmtime:pulley (default)" in text


def test_default_by_environment_variable_that_names_no_engine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTISM_ENGINE", "steam")
    result = run("engines")
    assert result.code == 0
    assert "default: none ('steam' by the environment variable EXTISM_ENGINE): no engine is called" in result.text


def test_default_by_setting(run: Run, registry: Any) -> None:
    registry.set_default_engine("wasmtime:pulley")
    assert default_line(run("engines").text) == "default: wasmtime:pulley (by set_default_engine())"


def test_option_goes_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTISM_ENGINE", "wasmtime:pulley")
    assert default_line(run("engines", "--engine", "wasmtime").text) == "default: wasmtime (by the option --engine)"


@pytest.mark.usefixtures("no_wasmer")
@pytest.mark.parametrize("name", ["steam", "wasmer"])
def test_option_that_comes_to_nothing(run: Run, name: str) -> None:
    result = run("engines", "--engine", name)
    assert (result.code, result.stdout) == (5, b"")


# -- JSON --------------------------------------------------------------------------------------------------


def test_json(run: Run) -> None:
    result = run("engines", "--json")
    assert (result.code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert [(info["name"], info["available"], info["version"]) for info in shown["engines"]] == [
        (info.name, info.available, info.version) for info in FOUND
    ]
    wasmtime = shown["engines"][0]["capabilities"]
    assert wasmtime["releases_gil"] is True
    assert "multi-value" in wasmtime["proposals"]
    assert shown["default"]["name"] == "auto"
    assert shown["default"]["source"] == "auto"
    assert shown["default"]["problem"] is None


@pytest.mark.usefixtures("no_wasmer")
def test_json_of_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTISM_ENGINE", "wasmer")
    shown = json.loads(run("engines", "--json").stdout)
    wasmer = next(info for info in shown["engines"] if info["name"] == "wasmer-pypi")
    assert wasmer == {
        "name": "wasmer-pypi",
        "available": False,
        "version": None,
        "reason": "the moon is in the way",
        "remedy": "wait a week",
        "capabilities": None,
    }
    assert (shown["default"]["source"], shown["default"]["engine"]) == ("environment", None)
    assert "the moon is in the way" in shown["default"]["problem"]
