"""What a call costs, against the official SDK in the same run: ``python benchmarks/calls.py``.

All ways take turns in one process, in many short slices, and the least of each is kept: on a busy machine the least
is what repeats. Read the ratios, not the times. Needs the package ``extism`` beside this one; without it only times
are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import extism_engines

GUESTS = Path(__file__).resolve().parent.parent / "conformance" / "guests"

CASES: tuple[tuple[str, str, str, bytes], ...] = (
    ("does nothing", "wat", "noop", b""),
    ("copies 11 bytes in and out", "wat", "echo", b"hello world"),
    ("copies 1 KiB", "wat", "echo", b"x" * 1024),
    ("copies 64 KiB", "wat", "echo", b"x" * 65536),
    ("config, and a var read and written", "c", "count_vowels", b"hello world"),
    ("traps", "wat", "trap", b""),
)


Slice = Callable[[int], float]
"""Calls so many times, one after the other; gives the seconds that one call took."""


def succeeding(plugin: Any, function: str, data: bytes) -> Slice:
    """Slices of calls that end well."""
    call = plugin.call

    def run(repeats: int) -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            call(function, data)
        return (time.perf_counter() - begin) / repeats

    return run


def failing(plugin: Any, function: str, data: bytes) -> Slice:
    """Slices of calls that raise: catching that is part of what is measured."""
    call = plugin.call

    def run(repeats: int) -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            with contextlib.suppress(Exception):  # every way has an error class of its own
                call(function, data)
        return (time.perf_counter() - begin) / repeats

    return run


def measure(runs: dict[str, Slice], slices: int, repeats: int) -> dict[str, float]:
    """The least time of each way, in seconds, over slices that take turns."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(slices):
        for name, run in runs.items():
            found[name] = min(found[name], run(repeats))
    return found


def plugins(guest: str) -> dict[str, Any]:
    """One plugin for every way that works here."""
    wasm = (GUESTS / guest / "guest.wasm").read_bytes()
    made: dict[str, Any] = {}
    try:
        import extism

        made["official"] = extism.Plugin(wasm, functions=[])
    except ImportError:
        pass
    for info in extism_engines.engines():
        if info.available:
            made[info.name] = extism_engines.Plugin(wasm, engine=info.name, functions=[])
    return made


def main() -> None:
    """Measures every case and prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=60, help="slices for each way and case (default: 60)")
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, {platform.machine()}; microseconds a call, and official / ours")
    for title, guest, function, data in CASES:
        print(f"\n{title}")
        made = plugins(guest)
        kind = failing if function == "trap" else succeeding
        runs = {name: kind(plugin, function, data) for name, plugin in made.items()}
        repeats = 20 if len(data) > 10_000 else 200
        found = measure(runs, options.slices, repeats)
        for name, seconds in found.items():
            ratio = f"{found['official'] / seconds:6.1f}" if "official" in found and name != "official" else ""
            print(f"  {name:24} {seconds * 1e6:9.2f} {ratio}")


if __name__ == "__main__":
    main()
