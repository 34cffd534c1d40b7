"""Builds the guests, or checks that each committed binary is what its source says.

    python conformance/guests/build.py [NAME...]            build and write guests.lock.json
    python conformance/guests/build.py --check [NAME...]    rebuild in a temporary folder and compare

`--check` prints one line per guest and exits with 1 if any is STALE. A guest whose toolchain is missing or broken is
`skipped`; that its source, recipe and binary are those of the last build is checked even then, by their SHA-256.
The script itself needs nothing but the standard library (and `tomli` on Python 3.10).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
DATA_FILE = "guests.toml"
LOCK_FILE = "guests.lock.json"
PROBE_SECONDS = 60
BUILD_SECONDS = 600


class ToolchainError(Exception):
    """The toolchain is missing (the text says how to get it) or does not work (the text says what it said)."""


@dataclass(frozen=True)
class Toolchain:
    """What a recipe needs; guests.toml explains the fields."""

    name: str
    probe: Sequence[str]
    get: str
    module: str | None = None
    program: str | None = None
    version: str | None = None

    def require(self) -> None:
        """Returns if the toolchain can be used; raises ToolchainError if not."""
        if self.module is not None and importlib.util.find_spec(self.module) is None:
            raise ToolchainError(f"{self.name} is missing: {self.get}")
        if self.program is not None and shutil.which(self.program) is None:
            raise ToolchainError(f"{self.name} is missing: {self.get}")
        with tempfile.TemporaryDirectory() as folder:
            found = _run(self.probe, Path(folder), PROBE_SECONDS).strip()
        if self.version is not None and not f"{found}.".startswith(f"{self.version}."):
            raise ToolchainError(f"{self.name} {self.version} is missing, there is {found}: {self.get}")


@dataclass(frozen=True)
class Guest:
    """One plugin; guests.toml explains the fields. Paths are relative to `folder`."""

    folder: Path
    name: str
    language: str
    sources: Sequence[str]
    output: str
    exports: Sequence[str]
    command: Sequence[str]
    toolchain: Toolchain
    prepare: Sequence[str] | None = None

    def build(self) -> bytes:
        """The binary, made in a temporary folder. Raises ToolchainError."""
        self.toolchain.require()
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name)
            for source in self.sources:
                (copy / source).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / source, copy / source)
            cwd = (copy / self.sources[0]).parent
            output = cwd / Path(self.output).name
            if self.prepare is not None:
                _run(self.prepare, cwd, BUILD_SECONDS)
            # A relative path: an absolute one could end up in the binary, which must not depend on where it is built.
            _run([part.replace("{output}", output.name) for part in self.command], cwd, BUILD_SECONDS)
            if not output.is_file():
                raise ToolchainError(f"the toolchain failed: {self.command[0]} wrote no {output.name}")
            return output.read_bytes()

    def fingerprint(self) -> dict[str, Any]:
        """What the lock file holds about this guest: SHA-256 of the recipe, of each source and of the binary. The value
        for a file that is not there is None."""
        recipe = json.dumps([self.prepare, self.command, self.toolchain.version])
        return {
            "recipe": hashlib.sha256(recipe.encode()).hexdigest(),
            "sources": {source: _sha256(self.folder / source) for source in self.sources},
            "wasm": _sha256(self.folder / self.output),
        }


class Verdict(Enum):
    OK = "ok"
    STALE = "STALE"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """What a check found out about one guest."""

    guest: Guest
    verdict: Verdict
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.guest.name}: {self.verdict.value}" + (f": {self.reason}" if self.reason else "")


def load_guests(folder: Path = HERE) -> list[Guest]:
    """The guests that `folder`/guests.toml describes."""
    data = tomllib.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
    return [
        Guest(folder=folder, name=name, **{**fields, "toolchain": Toolchain(**fields["toolchain"])})
        for name, fields in data.items()
    ]


def build(guest: Guest) -> None:
    """Builds a guest and records in the lock file what it was built from."""
    (guest.folder / guest.output).write_bytes(guest.build())
    record(guest)


def record(guest: Guest) -> None:
    """Writes to the lock file that the guest's binary was built from its source as they are now."""
    lock = {**_read_lock(guest.folder), guest.name: guest.fingerprint()}
    text = json.dumps(dict(sorted(lock.items())), indent=2) + "\n"
    (guest.folder / LOCK_FILE).write_text(text, encoding="utf-8", newline="\n")


def check(guest: Guest, *, rebuild: bool = True) -> Result:
    """Whether the committed binary is what the source says: first by the lock file, then, with `rebuild`, by building
    it again and comparing the bytes."""
    locked = _read_lock(guest.folder).get(guest.name)
    if locked is None:
        return Result(guest, Verdict.STALE, _stale(guest, f"{LOCK_FILE} does not know it: it was never built"))
    changed = _changes(locked, guest.fingerprint())
    if changed:
        return Result(guest, Verdict.STALE, _stale(guest, f"{', '.join(changed)} changed since the last build"))
    if not rebuild:
        return Result(guest, Verdict.OK)
    try:
        wasm = guest.build()
    except ToolchainError as error:
        # Not the source's fault: it is the one that the committed binary was built from.
        return Result(guest, Verdict.SKIPPED, str(error))
    if wasm != (guest.folder / guest.output).read_bytes():
        return Result(guest, Verdict.STALE, _stale(guest, "building it gives other bytes"))
    return Result(guest, Verdict.OK)


def _stale(guest: Guest, reason: str) -> str:
    remedy = f"run: python conformance/guests/build.py {guest.name}"
    return f"the committed binary no longer matches its source ({reason}); {remedy}"


def _changes(locked: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of what differs between the lock file's entry for a guest and the guest."""
    changed = [source for source, digest in now["sources"].items() if locked["sources"].get(source) != digest]
    changed += [f"{source} (no longer a source)" for source in locked["sources"] if source not in now["sources"]]
    if locked["recipe"] != now["recipe"]:
        changed.append("the recipe")
    if locked["wasm"] != now["wasm"]:
        changed.append("the binary")
    return changed


def _read_lock(folder: Path) -> dict[str, Any]:
    path = folder / LOCK_FILE
    if not path.exists():
        return {}
    lock: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return lock


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _run(command: Sequence[str], cwd: Path, seconds: float) -> str:
    """Runs a command of guests.toml and returns its standard output. Raises ToolchainError."""
    arguments = [part.replace("{python}", sys.executable) for part in command]
    # On Windows npm is npm.cmd, which only `which` finds.
    arguments[0] = shutil.which(arguments[0]) or arguments[0]
    name = Path(arguments[0]).name
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except OSError as error:
        raise ToolchainError(f"the toolchain failed: {name}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"the toolchain failed: {name} took longer than {seconds} seconds") from error
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        # npm says what is wrong in the first line, Python in the last.
        said = " … ".join(dict.fromkeys(lines[:1] + lines[-1:]))
        raise ToolchainError(f"the toolchain failed: {name} exited with {done.returncode}: {said}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Builds the guests of the demo and the conformance suite.")
    parser.add_argument("--check", action="store_true", help="write nothing; say which binaries are stale")
    parser.add_argument("names", nargs="*", metavar="NAME", help="guests of guests.toml; all of them if none is named")
    options = parser.parse_args(arguments)

    guests = {guest.name: guest for guest in load_guests()}
    unknown = [name for name in options.names if name not in guests]
    if unknown:
        parser.error(f"no such guest: {', '.join(unknown)} (there are: {', '.join(guests)})")
    chosen = [guests[name] for name in options.names or guests]

    if options.check:
        results = [check(guest) for guest in chosen]
        print(*results, sep="\n")
        return 1 if any(result.verdict is Verdict.STALE for result in results) else 0

    return max([_build_and_report(guest) for guest in chosen])


def _build_and_report(guest: Guest) -> int:
    try:
        build(guest)
    except ToolchainError as error:
        print(f"{guest.name}: not built: {error}")
        return 1
    print(f"{guest.name}: built, {(guest.folder / guest.output).stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
