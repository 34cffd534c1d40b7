"""The helpers of tox and of the continuous integration: finding Pythons, summing up test runs."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
MINOR = sys.version_info[1]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the interpreters made here are shell scripts")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


interpreters = _load("interpreters")
reports = _load("reports")


# ---- Finding Pythons ----


def make_python(folder: Path, *, works: bool = True) -> Path:
    """A `python3.<minor>` in `folder`/bin: this one, or one that fails like a shim of pyenv for another version."""
    executable = folder / "bin" / f"python3.{MINOR}"
    executable.parent.mkdir(parents=True)
    executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n' if works else "#!/bin/sh\nexit 127\n")
    executable.chmod(0o755)
    return executable


def test_the_newest_release_of_pyenv_is_found(tmp_path: Path) -> None:
    versions = tmp_path / ".pyenv" / "versions"
    make_python(versions / f"3.{MINOR}.9")
    newest = make_python(versions / f"3.{MINOR}.10")
    for other in (f"3.{MINOR}.11rc1", f"3.{MINOR}.12t", f"3.{MINOR}.13-myproject", f"3.{MINOR + 1}.1", f"3.{MINOR}"):
        make_python(versions / other)
    assert interpreters.managed(MINOR, {}, tmp_path) == newest
    assert list(interpreters.find_all(range(MINOR, MINOR + 1), {}, tmp_path)) == [newest]


def test_an_interpreter_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    versions = tmp_path / ".pyenv" / "versions"
    good = make_python(versions / f"3.{MINOR}.1")
    make_python(versions / f"3.{MINOR}.2", works=False)
    (versions / f"3.{MINOR}.3").mkdir()
    assert interpreters.managed(MINOR, {}, tmp_path) == good


def test_an_interpreter_of_another_version_does_not_count(tmp_path: Path) -> None:
    assert interpreters.works(Path(sys.executable), MINOR)
    assert not interpreters.works(Path(sys.executable), MINOR + 1)


@pytest.mark.parametrize(
    ("variable", "default", "folder"),
    [
        ("PYENV_ROOT", ".pyenv", f"versions/3.{MINOR}.1"),
        ("ASDF_DATA_DIR", ".asdf", f"installs/python/3.{MINOR}.1"),
        ("MISE_DATA_DIR", ".local/share/mise", f"installs/python/3.{MINOR}.1"),
        ("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python", f"cpython-3.{MINOR}.1-linux-x86_64-gnu"),
    ],
)
def test_every_version_manager_is_known_by_its_variable_and_its_default(
    tmp_path: Path, variable: str, default: str, folder: str
) -> None:
    usual = make_python(tmp_path / "home" / default / folder)
    moved = make_python(tmp_path / "moved" / folder)
    assert interpreters.managed(MINOR, {}, tmp_path / "home") == usual
    assert interpreters.managed(MINOR, {variable: str(tmp_path / "moved")}, tmp_path / "home") == moved


def test_without_a_version_manager_nothing_is_found(tmp_path: Path) -> None:
    assert interpreters.managed(MINOR, {}, tmp_path) is None
    assert list(interpreters.find_all(range(10, 15), {}, tmp_path)) == []


def test_a_failing_shim_does_not_hide_what_comes_later_on_path(tmp_path: Path) -> None:
    shim = make_python(tmp_path / "shims", works=False)
    real = make_python(tmp_path / "usr")
    path = os.pathsep.join([str(shim.parent), "", str(tmp_path / "gone"), str(real.parent)])
    assert interpreters.on_path(MINOR, {"PATH": path}) == real
    assert interpreters.on_path(MINOR, {"PATH": str(shim.parent)}) is None


def test_command_line_prints_an_interpreter_or_fails(tmp_path: Path) -> None:
    executable = make_python(tmp_path / f"3.{MINOR}")
    environment = {"PATH": str(executable.parent), "HOME": str(tmp_path)}
    script = [sys.executable, str(ROOT / ".ci" / "interpreters.py")]
    done = subprocess.run([*script, f"3.{MINOR}"], env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, f"{executable}\n")
    assert subprocess.run([*script, "3.99"], env=environment, capture_output=True).returncode == 1


# ---- Summing up test runs ----

NO_BINARIES = "no binaries for CPython 3.11 and newer"


def report(environment: str, unavailable: dict[str, str] | None = None, **engines: tuple[str, int, int]) -> Any:
    results = {name.replace("_", "-"): reports.EngineResult(*result) for name, result in engines.items()}
    return reports.EngineReport(environment, "3.x", results, unavailable or {})


def test_closing_lines_say_what_was_tested_where() -> None:
    no_native = {"wasmer-native": "not installed"}
    lines = reports.closing_lines(
        [
            report("py310", no_native, wasmtime=("50.0.1", 412, 0), wasmer_pypi=("1.1.0", 300, 2)),
            report("py311", {**no_native, "wasmer-pypi": NO_BINARIES}, wasmtime=("50.0.1", 412, 0)),
            report("py312", {**no_native, "wasmer-pypi": NO_BINARIES}, wasmtime=("50.0.1", 411, 0)),
        ],
        {"py314": reports.NO_PYTHON},
    )
    assert lines == [
        "wasmtime 50.0.1: 412 tests on each of py310 py311, 411 tests on py312",
        f"wasmer-pypi 1.1.0: 300 tests on py310, 2 FAILED; not tested on py311 py312 ({NO_BINARIES})",
        "wasmer-native: not tested on py310 py311 py312 (not installed)",
        "py314: nothing was tested: its Python was not found",
    ]


def test_an_engine_without_any_test_was_not_tested() -> None:
    lines = reports.closing_lines([report("py310", wasmtime=("50.0.1", 9, 0), wasmer_pypi=("1.1.0", 0, 0))], {})
    assert lines[1] == "wasmer-pypi: not tested on py310 (no test asked for it)"
    assert lines[2].startswith("NO WASMER WAS TESTED: ")


@pytest.mark.parametrize(
    ("found", "absent", "reason"),
    [
        ([report("py311")], {"py310": reports.NO_PYTHON}, "py310: its Python was not found. Install it (for example"),
        ([report("py311")], {"py310": reports.BROKE_OFF}, "py310: it broke off before it could say which"),
        ([report("py311")], {}, "py310 was not asked for: tox run -e py310"),
        ([report("py310", {"wasmer-pypi": "no wheel"})], {}, "py310: wasmer-pypi: no wheel."),
        ([], {"py310": reports.BROKE_OFF}, "py310: it broke off"),
    ],
)
def test_no_wasmer_is_said_aloud_with_reason(found: list[Any], absent: dict[str, str], reason: str) -> None:
    last = reports.closing_lines(found, absent)[-1]
    assert last.startswith("NO WASMER WAS TESTED: PyPI's wasmer needs CPython 3.10 on x86-64. ")
    assert reason in last


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """Tox's work folder after a run of py310 and py311."""
    for folder in ("engine-reports", "test-results", "py310"):
        (tmp_path / folder).mkdir()
    data = {
        "python": "3.10.13",
        "engines": {"wasmtime": {"version": "50.0.1", "tests": 120, "failed": 1}},
        "unavailable": {"wasmer-pypi": "reason"},
    }
    (tmp_path / "engine-reports" / "py310.json").write_text(json.dumps(data), encoding="utf-8")
    for name, counts in (("py310", 'tests="10" failures="1" errors="2" skipped="3"'), ("py311", 'tests="5"')):
        xml = f"<testsuites><testsuite {counts}/></testsuites>"
        (tmp_path / "test-results" / f"{name}.xml").write_text(xml, encoding="utf-8")
    return tmp_path


def test_engine_reports_are_read(work_dir: Path) -> None:
    assert reports.read_engine_reports(work_dir) == [
        reports.EngineReport(
            "py310", "3.10.13", {"wasmtime": reports.EngineResult("50.0.1", 120, 1)}, {"wasmer-pypi": "reason"}
        )
    ]


def test_totals_are_summed_over_environments(work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reports.main([str(work_dir), "totals"]) == 0
    assert capsys.readouterr().out == "9 passed, 3 failed, 3 skipped\n"


def test_command_line_knows_what_was_tested(work_dir: Path) -> None:
    assert reports.main([str(work_dir), "tested", "wasmtime"]) == 0
    assert reports.main([str(work_dir), "tested", "wasmer-pypi"]) == 1
    with pytest.raises(SystemExit, match="neither"):
        reports.main([str(work_dir), "total"])


def test_an_earlier_run_is_forgotten(work_dir: Path) -> None:
    reports.forget(work_dir)
    assert [path.name for path in work_dir.iterdir()] == ["py310"]
    assert reports.read_engine_reports(work_dir) == []
    assert str(reports.read_totals(work_dir)) == "0 passed, 0 failed, 0 skipped"
    reports.forget(work_dir)


# ---- What two files must agree on ----


def test_tox_installs_the_compiler_that_the_guests_were_built_with() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    guests = tomllib.loads((ROOT / "conformance" / "guests" / "guests.toml").read_text(encoding="utf-8"))
    assert f"ziglang=={guests['c']['toolchain']['version']}" in tox["testenv:guests"]["deps"].split()
    assert guests["c"]["toolchain"]["get"].endswith(f"ziglang=={guests['c']['toolchain']['version']}")
