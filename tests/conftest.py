"""Every behaviour test runs on every engine that is available, and the end of a run says which were not and why."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extism_engines import HOST_FN_REGISTRY
from extism_engines.engines import api, engine_names, engines, get_engine
from extism_engines.errors import EngineUnavailableError

from .fakes.engine import create as create_fake

FAKE = "fake"
ENGINES = engine_names()

_passed: Counter[str] = Counter()
_failed: Counter[str] = Counter()


def engine_named(name: str) -> api.Engine:
    """An engine, the tests' own included. Skips the test where it cannot run."""
    if name == FAKE:
        return create_fake(None)
    try:
        return get_engine(name)
    except EngineUnavailableError as error:
        pytest.skip(f"{name}: {error.reason}")


@pytest.fixture(params=[*ENGINES, FAKE])
def engine(request: pytest.FixtureRequest) -> api.Engine:
    """Each engine in turn."""
    return engine_named(request.param)


@pytest.fixture(params=[name for name in ENGINES if name.startswith("wasmtime")])
def wasmtime_engine(request: pytest.FixtureRequest) -> api.Engine:
    """Each variant of wasmtime."""
    return engine_named(request.param)


@pytest.fixture(params=[name for name in ENGINES if name.startswith("wasmer-pypi")])
def wasmer_engine(request: pytest.FixtureRequest) -> api.Engine:
    """Each variant of PyPI's wasmer."""
    return engine_named(request.param)


@pytest.fixture
def store(engine: api.Engine) -> Iterator[api.Store]:
    """An empty store of each engine."""
    made = engine.new_store()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    """Host functions of one test are not those of the next."""
    before = HOST_FN_REGISTRY[:]
    yield
    HOST_FN_REGISTRY[:] = before


# -- what was tested on what -----------------------------------------------------------------------------------


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    engine = dict(report.user_properties).get("engine")
    if isinstance(engine, str) and (report.when == "call" or report.failed):
        _passed[engine] += report.passed
        _failed[engine] += report.failed


@pytest.fixture(autouse=True)
def _note_engine(request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    for fixture in ("engine", "wasmtime_engine", "wasmer_engine"):
        if callspec is not None and fixture in callspec.params:
            request.node.user_properties.append(("engine", callspec.params[fixture]))


def _report() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "engines": {
            info.name: {
                "version": info.version,
                "tests": _passed[info.name] + _failed[info.name],
                "failed": _failed[info.name],
            }
            for info in engines()
            if info.available
        },
        "unavailable": {info.name: info.reason for info in engines() if not info.available},
    }


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report = _report()
    if not _passed and not _failed:
        return
    terminalreporter.section("engines")
    for name, found in report["engines"].items():
        failed = f", {found['failed']} failed" if found["failed"] else ""
        terminalreporter.line(f"{name} {found['version']}: {found['tests']} tests{failed}")
    for name, reason in report["unavailable"].items():
        terminalreporter.line(f"{name}: not tested: {reason}")


def pytest_sessionfinish() -> None:
    path = os.environ.get("EXTISM_ENGINES_TEST_REPORT")
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(_report(), indent=2) + "\n", encoding="utf-8")
