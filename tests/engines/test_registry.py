"""Names of engines, which one is taken, and what is said about those that cannot run."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from ..conftest import engine_named
from ..fakes.engine import create as create_fake
from ..support import ECHO, binary, plugin_text

# The package's function `engines` goes by the same name as this module.
registry = importlib.import_module("extism_engines.engines")


class FakePoint:
    """An entry point of another package."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name = name
        self.load = load


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs engines of other packages, in a registry of the test's own."""

    def with_points(**points: Callable[[], Any]) -> None:
        found = [FakePoint(name.replace("_", "-"), load) for name, load in points.items()]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
        monkeypatch.setattr(registry, "_registry", registry._Registry())

    with_points()
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    return with_points


def unavailable(reason: str, remedy: str | None = None) -> Callable[[], Any]:
    """A factory whose engine cannot run."""

    def create(_variant: str | None) -> api.Engine:
        raise extism.EngineUnavailableError(reason=reason, remedy=remedy)

    return lambda: create


def test_every_engine_is_listed_with_a_reason_or_a_version() -> None:
    infos = {info.name: info for info in extism.engines()}
    assert {"wasmtime", "wasmtime:pulley", "wasmer-pypi", "wasmer-pypi:singlepass"} <= set(infos)
    for info in infos.values():
        if info.available:
            assert info.version and info.capabilities and info.reason is None
        else:
            assert info.reason and info.version is None


def test_an_unknown_engine_is_named_with_those_there_are() -> None:
    for name in ("wasmtme", "wasmtime:turbo", "", ":", "auto:x"):
        with pytest.raises(extism.EngineNotFoundError) as caught:
            extism.Plugin(b"\0asm\1\0\0\0", engine=name)
        assert f"no engine is called {name!r}" in str(caught.value)
        assert "wasmtime, wasmtime:pulley, wasmer-pypi" in str(caught.value)
        assert isinstance(caught.value, LookupError)


def test_an_engine_is_named_by_text() -> None:
    with pytest.raises(TypeError, match="named by a str"):
        registry.get_engine(5)


def test_an_unavailable_engine_says_why_and_what_to_do(install: Callable[..., None]) -> None:
    install(broken=unavailable("there is no such library", "pip install it"))
    with pytest.raises(extism.EngineUnavailableError) as caught:
        extism.Plugin(b"\0asm\1\0\0\0", engine="broken")
    error = caught.value
    assert str(error) == "engine 'broken' cannot run here: there is no such library (remedy: pip install it)"
    assert (error.engine, error.reason, error.remedy) == ("broken", "there is no such library", "pip install it")


def test_pypi_wasmer_says_what_it_needs() -> None:
    info = next(info for info in extism.engines() if info.name == "wasmer-pypi")
    if info.available:
        pytest.skip("it can run here")
    assert (
        "CPython 3.10 and older" in str(info.reason) or "x86-64" in str(info.reason) or "imported" in str(info.reason)
    )
    with pytest.raises(extism.EngineUnavailableError, match="wasmer"):
        registry.get_engine("wasmer")


def test_others_engines_work_by_entry_point(install: Callable[..., None]) -> None:
    install(fake=lambda: create_fake)
    with extism.Plugin(binary(plugin_text(ECHO)), engine="fake", functions=[]) as made:
        assert (made.engine, made.call("echo", b"x")) == ("fake", b"x")
    assert "fake" in [info.name for info in extism.engines() if info.available]


def test_a_broken_engine_is_reported_and_harms_nobody(install: Callable[..., None]) -> None:
    def cannot_import() -> Any:
        raise SyntaxError("somebody else's bug")

    def create_old(_variant: str | None) -> api.Engine:
        engine = create_fake(None)
        engine.api_version = 99
        return engine

    def create_raising(_variant: str | None) -> api.Engine:
        raise ZeroDivisionError("oops")

    install(
        bad_import=cannot_import,
        old=lambda: create_old,
        raising=lambda: create_raising,
        nonsense=lambda: lambda _variant: object(),
        fake=lambda: create_fake,
    )
    infos = {info.name: info for info in extism.engines()}
    assert "SyntaxError: somebody else's bug" in str(infos["bad-import"].reason)
    assert "version 99 of the engine contract" in str(infos["old"].reason)
    assert "ZeroDivisionError: oops" in str(infos["raising"].reason)
    assert not infos["nonsense"].available
    assert infos["fake"].available
    with pytest.raises(extism.EngineUnavailableError):
        registry.get_engine("raising")


def test_a_foreign_engine_cannot_take_a_built_in_name(install: Callable[..., None]) -> None:
    install(wasmtime=lambda: create_fake, auto=lambda: create_fake)
    assert registry.engine_names().count("wasmtime") == 1
    assert registry.get_engine("wasmtime").name == "wasmtime"


def test_the_choice(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, then environment, then default, then auto."""
    install(one=lambda: create_fake, two=lambda: create_fake)
    assert extism.default_engine() == "auto"
    extism.set_default_engine("one")
    assert extism.default_engine() == "one"
    monkeypatch.setenv("EXTISM_ENGINE", "two")
    assert extism.default_engine() == "two"
    assert registry.get_engine("one") is registry.get_engine("one")
    monkeypatch.setenv("EXTISM_ENGINE", "nope")
    with pytest.raises(extism.EngineNotFoundError, match="'nope'"):
        extism.Plugin(b"\0asm\1\0\0\0")
    monkeypatch.setenv("EXTISM_ENGINE", "")
    assert extism.default_engine() == "one"
    extism.set_default_engine(None)
    assert extism.default_engine() == "auto"
    with pytest.raises(extism.EngineNotFoundError):
        extism.set_default_engine("nope")


def test_aliases_take_the_first_that_can_run(install: Callable[..., None]) -> None:
    install(wasmer_native=lambda: create_fake)
    assert registry.get_engine("auto").name == "fake"
    assert registry.get_engine("wasmer").name == "fake"
    install(wasmer_native=unavailable("no library"))
    assert registry.get_engine("auto").name in ("wasmtime", "wasmer-pypi")


def test_when_nothing_can_run_every_reason_is_given(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_BUILT_IN", ())
    install(wasmtime=unavailable("reason one", "remedy one"), wasmer_pypi=unavailable("reason two", "remedy two"))
    with pytest.raises(extism.EngineUnavailableError) as caught:
        registry.get_engine("auto")
    for part in ("no engine can run here", "reason one", "reason two", "remedy one", "remedy two"):
        assert part in str(caught.value)


def test_the_environment_variable_in_a_fresh_process() -> None:
    code = "import extism_engines as e; print(e.Plugin(b'\\0asm\\1\\0\\0\\0').engine)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "EXTISM_ENGINE": "wasmtime:pulley", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    engine_named("wasmtime:pulley")
    assert run.stdout.strip() == "wasmtime:pulley", run.stderr


def test_importing_loads_no_engine() -> None:
    code = (
        "import sys, extism_engines; "
        "print(sorted({'wasmtime', 'wasmer', 'cffi', 'click', 'rich'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def test_auto_takes_an_engine_that_runs_what_the_module_needs(install: Callable[..., None]) -> None:
    """The fake engine comes first here, and has no SIMD."""
    install(wasmer_native=lambda: create_fake)
    engine_named("wasmtime")
    simd = binary('(module (func (export "f") (drop (i8x16.splat (i32.const 1)))))')
    with extism.Plugin(binary(plugin_text(ECHO)), functions=[]) as made:
        assert made.engine == "fake"
    with extism.Plugin(simd, functions=[]) as made:
        assert made.engine == "wasmtime"
        made.call("f")
    with pytest.raises(extism.UnsupportedFeatureError, match="simd"):
        extism.Plugin(simd, functions=[], engine="wasmer-native")


def test_text_is_read_by_any_engine_that_can(install: Callable[..., None]) -> None:
    install(wasmer_native=lambda: create_fake)
    with extism.Plugin(plugin_text(ECHO), functions=[], engine="wasmer-native") as made:
        assert made.call("echo", b"text") == b"text"


def test_without_a_parser_the_remedy_is_named(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUILT_IN", ())
    install(wasmer_native=lambda: create_fake)
    with pytest.raises(extism.UnsupportedFeatureError, match="pip install wasmtime"):
        extism.Plugin(plugin_text(ECHO), functions=[])
