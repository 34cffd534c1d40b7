"""The committed guests are what their sources say, and the checker that says so finds what it should."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wasmtime

GUESTS = Path(__file__).resolve().parent.parent / "conformance" / "guests"
REBUILD = os.environ.get("EXTISM_ENGINES_REBUILD_GUESTS") == "1"


def _load_build() -> ModuleType:
    """The script as a module; it is not part of any package."""
    spec = importlib.util.spec_from_file_location("guests_build", GUESTS / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = _load_build()
NAMES = [guest.name for guest in build.load_guests()]


def guest_called(name: str, folder: Path = GUESTS) -> Any:
    return next(guest for guest in build.load_guests(folder) if guest.name == name)


# ---- The committed binaries ----


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changed_since_the_last_build(name: str) -> None:
    result = build.check(guest_called(name), rebuild=False)
    assert result.verdict is build.Verdict.OK, str(result)


def test_wat_builds_to_the_same_bytes() -> None:
    result = build.check(guest_called("wat"))
    assert result.verdict is build.Verdict.OK, str(result)


@pytest.mark.skipif(not REBUILD, reason="rebuilt only where EXTISM_ENGINES_REBUILD_GUESTS=1, as in `tox run -e guests`")
@pytest.mark.parametrize("name", ["c", "assemblyscript"])
def test_compiled_guests_build_to_the_same_bytes(name: str) -> None:
    result = build.check(guest_called(name))
    if result.verdict is build.Verdict.SKIPPED:
        pytest.skip(result.reason)
    assert result.verdict is build.Verdict.OK, str(result)


@pytest.mark.parametrize("name", NAMES)
def test_binaries_export_what_the_data_file_says_and_import_only_extism(name: str) -> None:
    guest = guest_called(name)
    module = wasmtime.Module(wasmtime.Engine(), (GUESTS / guest.output).read_bytes())
    functions = {item.name for item in module.exports if isinstance(item.type, wasmtime.FuncType)}
    assert functions == set(guest.exports)
    assert {item.module for item in module.imports} == {"extism:host/env"}


@pytest.mark.parametrize("name", NAMES)
def test_binaries_are_small(name: str) -> None:
    assert (GUESTS / guest_called(name).output).stat().st_size < 16 * 1024


def test_the_lock_file_of_npm_names_no_registry() -> None:
    assert "resolved" not in (GUESTS / "assemblyscript" / "package-lock.json").read_text(encoding="utf-8")


# ---- The checker, on a guest that needs no compiler ----

TOY = """
[toy]
language = "Toy"
sources = ["toy/source.txt", "toy/copy.py"]
output = "toy/guest.wasm"
exports = []
command = ["{python}", "copy.py", "source.txt", "{output}"]

[toy.toolchain]
name = "toy-compiler"
module = "sys"
probe = ["{python}", "-c", "print('1.2.3')"]
version = "1.2"
get = "take a look in the toy box"
"""

COPY = """
import sys
open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read().upper())
"""


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A folder like conformance/guests with the one guest `toy`, built."""
    folder = tmp_path / "guests"
    (folder / "toy").mkdir(parents=True)
    (folder / "guests.toml").write_text(TOY, encoding="utf-8")
    (folder / "toy" / "source.txt").write_text("hello", encoding="utf-8")
    (folder / "toy" / "copy.py").write_text(COPY, encoding="utf-8")
    build.build(guest_called("toy", folder))
    return folder


def check_toy(folder: Path, *, rebuild: bool = True) -> Any:
    return build.check(guest_called("toy", folder), rebuild=rebuild)


def change_data(folder: Path, old: str, new: str) -> None:
    assert old in TOY
    (folder / "guests.toml").write_text(TOY.replace(old, new), encoding="utf-8")


def test_build_writes_the_binary(toys: Path) -> None:
    assert (toys / "toy" / "guest.wasm").read_bytes() == b"HELLO"
    assert check_toy(toys).verdict is build.Verdict.OK


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_changed_source_is_stale(toys: Path, rebuild: bool) -> None:
    (toys / "toy" / "source.txt").write_text("hello!", encoding="utf-8")
    result = check_toy(toys, rebuild=rebuild)
    assert result.verdict is build.Verdict.STALE
    assert str(result).startswith("toy: STALE: the committed binary no longer matches its source (toy/source.txt ")


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_changed_binary_is_stale(toys: Path, rebuild: bool) -> None:
    (toys / "toy" / "guest.wasm").write_bytes(b"HELLO!")
    result = check_toy(toys, rebuild=rebuild)
    assert result.verdict is build.Verdict.STALE
    assert "the binary changed" in result.reason


def test_a_lost_binary_is_stale(toys: Path) -> None:
    (toys / "toy" / "guest.wasm").unlink()
    assert check_toy(toys).verdict is build.Verdict.STALE


def test_a_lost_source_is_stale(toys: Path) -> None:
    (toys / "toy" / "source.txt").unlink()
    assert check_toy(toys).verdict is build.Verdict.STALE


def test_a_changed_recipe_is_stale(toys: Path) -> None:
    change_data(toys, '"{python}", "copy.py"', '"{python}", "-O", "copy.py"')
    result = check_toy(toys)
    assert result.verdict is build.Verdict.STALE
    assert "the recipe changed" in result.reason


def test_a_source_added_or_taken_away_is_stale(toys: Path) -> None:
    change_data(toys, ', "toy/copy.py"', "")
    assert "toy/copy.py (no longer a source)" in check_toy(toys).reason
    shutil.copy(toys / "toy" / "copy.py", toys / "toy" / "other.py")
    change_data(toys, '"toy/copy.py"', '"toy/copy.py", "toy/other.py"')
    assert "toy/other.py" in check_toy(toys).reason


def test_a_guest_that_was_never_built_is_stale(toys: Path) -> None:
    (toys / "guests.lock.json").unlink()
    result = check_toy(toys)
    assert result.verdict is build.Verdict.STALE
    assert "never built" in result.reason


def test_a_binary_that_agrees_with_the_lock_file_alone_is_stale(toys: Path) -> None:
    """As after a merge that took binary and lock file from one side and the source from nowhere."""
    guest = guest_called("toy", toys)
    (toys / "toy" / "guest.wasm").write_bytes(b"FORGED")
    build.record(guest)
    assert check_toy(toys, rebuild=False).verdict is build.Verdict.OK
    result = check_toy(toys)
    assert result.verdict is build.Verdict.STALE
    assert "building it gives other bytes" in result.reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('module = "sys"', 'module = "no_such_module"', "toy-compiler is missing: take a look in the toy box"),
        ('module = "sys"', 'program = "no-such-program"', "toy-compiler is missing: take a look in the toy box"),
        ("1.2.3", "1.20.3", "toy-compiler 1.2 is missing, there is 1.20.3: take a look in the toy box"),
        ("print('1.2.3')", "import no_such_module", "the toolchain failed: "),
        ('probe = ["{python}", "-c"', 'probe = ["no-such-program", "-c"', "the toolchain failed: no-such-program: "),
    ],
)
def test_without_a_working_toolchain_the_check_is_skipped_unless_the_source_changed(
    toys: Path, old: str, new: str, reason: str
) -> None:
    change_data(toys, old, new)
    result = check_toy(toys)
    assert result.verdict is build.Verdict.SKIPPED
    assert result.reason.startswith(reason)

    (toys / "toy" / "source.txt").write_text("hello!", encoding="utf-8")
    assert check_toy(toys).verdict is build.Verdict.STALE


def test_a_compiler_that_fails_on_an_unchanged_source_is_skipped(toys: Path) -> None:
    guest = guest_called("toy", toys)
    (toys / "toy" / "copy.py").write_text("import sys; sys.exit('out of paper')", encoding="utf-8")
    build.record(guest)
    result = check_toy(toys)
    assert result.verdict is build.Verdict.SKIPPED
    assert result.reason.startswith("the toolchain failed: ") and result.reason.endswith("exited with 1: out of paper")


def test_a_compiler_that_writes_nothing_is_reported(toys: Path) -> None:
    guest = guest_called("toy", toys)
    (toys / "toy" / "copy.py").write_text("", encoding="utf-8")
    build.record(guest)
    result = check_toy(toys)
    assert result.verdict is build.Verdict.SKIPPED
    assert "wrote no guest.wasm" in result.reason


def test_a_compiler_that_hangs_is_reported(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PROBE_SECONDS", 0.2)
    change_data(toys, "print('1.2.3')", "import time; time.sleep(60)")
    result = check_toy(toys)
    assert result.verdict is build.Verdict.SKIPPED
    assert result.reason.endswith("took longer than 0.2 seconds")


def test_the_build_sees_only_the_sources_and_leaves_nothing_behind(toys: Path) -> None:
    (toys / "toy" / "unlisted.txt").write_text("", encoding="utf-8")
    (toys / "toy" / "copy.py").write_text(
        "import os, sys; open('left-over', 'w').close(); open(sys.argv[2], 'w').write(' '.join(sorted(os.listdir())))",
        encoding="utf-8",
    )
    before = sorted(toys.rglob("*"))
    build.build(guest_called("toy", toys))
    assert (toys / "toy" / "guest.wasm").read_text(encoding="utf-8") == "copy.py guest.wasm left-over source.txt"
    assert sorted(toys.rglob("*")) == before


# ---- The command line ----


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(GUESTS / "build.py", folder)
    return subprocess.run(
        [sys.executable, str(folder / "build.py"), *arguments], capture_output=True, encoding="utf-8", timeout=60
    )


def test_command_line_builds_and_checks(toys: Path) -> None:
    done = run_script(toys, "--check")
    assert (done.returncode, done.stdout) == (0, "toy: ok\n")

    (toys / "toy" / "source.txt").write_text("hello!", encoding="utf-8")
    done = run_script(toys, "--check", "toy")
    assert done.returncode == 1
    assert done.stdout.startswith("toy: STALE: ")

    done = run_script(toys, "toy")
    assert (done.returncode, done.stdout) == (0, "toy: built, 6 bytes\n")
    assert run_script(toys, "--check").returncode == 0


def test_command_line_says_what_it_could_not_build(toys: Path) -> None:
    change_data(toys, 'module = "sys"', 'module = "no_such_module"')
    reason = "toy-compiler is missing: take a look in the toy box"
    done = run_script(toys, "--check")
    assert (done.returncode, done.stdout) == (0, f"toy: skipped: {reason}\n")
    done = run_script(toys)
    assert (done.returncode, done.stdout) == (1, f"toy: not built: {reason}\n")


def test_command_line_refuses_unknown_names(toys: Path) -> None:
    done = run_script(toys, "--check", "tyo")
    assert done.returncode == 2
    assert "no such guest: tyo (there are: toy)" in done.stderr
