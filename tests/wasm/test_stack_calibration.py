"""Frame estimates against the frames that PyPI Wasmer's compilers really make, and the budget on that engine.

Stacks overflow here, so it happens in processes of their own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from extism_engines.wasm import Needs, prepare

from .builder import wat
from .hungry import FAMILIES, random_module
from .test_stack_budget import frame_sizes

COMPILERS = ["cranelift", "singlepass"]
COUNTS = [0, 1, 7, 100, 400]
RANDOM_MODULES = 25
SCRIPTS = Path(__file__).parent


def need(compiler: str) -> None:
    """Skips the test where the compiler is missing."""
    for package in ("wasmer", f"wasmer_compiler_{compiler}"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    # Where there are no binaries, the package is a stub that cannot be imported.
    tried = subprocess.run([sys.executable, "-c", "import wasmer"], capture_output=True)
    if tried.returncode:
        pytest.skip("wasmer is not available on this system")


def run(script: str, arguments: list[str], directory: Path, modules: Mapping[str, bytes]) -> dict[str, str]:
    """What a script prints about each module; modules that the compiler refuses are left out."""
    lines = []
    for number, (name, wasm) in enumerate(modules.items()):
        path = directory / f"{number}.wasm"
        path.write_bytes(wasm)
        lines.append(f"{name} {path}\n")
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        input="".join(lines),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found.keys() == modules.keys(), done.stderr[-2000:]
    return {name: value for name, value in found.items() if value != "-"}


def assert_estimates_hold(compiler: str, directory: Path, modules: Mapping[str, bytes]) -> None:
    """The recurring function is the last of each module, or the one before it."""
    measured = run("measure_frames.py", [compiler], directory, modules)
    assert measured, "the compiler refused everything"
    too_small = {
        name: (int(real), estimate)
        for name, real in measured.items()
        if int(real) > (estimate := list(frame_sizes(modules[name]).values())[-1])
    }
    assert not too_small


@pytest.mark.parametrize("compiler", COMPILERS)
def test_hungry_functions(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    modules = {f"{name}:{count}": wat(family(count)) for name, family in FAMILIES.items() for count in COUNTS}
    assert_estimates_hold(compiler, tmp_path, modules)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_random_functions(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    assert_estimates_hold(compiler, tmp_path, {f"{seed}": wat(random_module(seed)) for seed in range(RANDOM_MODULES)})


@pytest.mark.parametrize("compiler", COMPILERS)
def test_very_many_locals(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    modules = {str(count): wat(FAMILIES["locals"](count)) for count in (5_000, 15_000)}
    assert_estimates_hold(compiler, tmp_path, modules)


RECURSIONS = {
    "recursion": '(module (func $f (export "f") (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1))))',
    "mutual": """(module (func $f (export "f") (param i64) (result i64) (i64.add (call $g (local.get 0)) (i64.const 1)))
        (func $g (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1))))""",
    "table": """(module (type $t (func (param i64) (result i64))) (table 1 funcref) (elem (i32.const 0) $f)
        (func $f (export "f") (type $t)
          (i64.add (call_indirect (type $t) (local.get 0) (i32.const 0)) (i64.const 1))))""",
    "locals": FAMILIES["locals"](2000),
    "operands": FAMILIES["operands"](500),
    "products": FAMILIES["products"](300),
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_endless_recursion_ends_by_the_budget(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    prepared = {name: prepare(wat(text), Needs(stack_budget=True)) for name, text in RECURSIONS.items()}
    modules = {name: module.wasm for name, module in prepared.items()}
    reserve = max(module.stack_reserve for module in prepared.values())
    reasons = run("run_out_of_budget.py", [compiler, str(reserve)], tmp_path, modules)
    assert reasons == dict.fromkeys(RECURSIONS, "unreachable")
