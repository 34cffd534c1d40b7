"""What the demo runs, and what it measures and compares."""

from __future__ import annotations

import importlib.resources
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

import attrs

from .. import errors
from ..compiled import CompiledPlugin
from ..engines import api
from ..plugin import Plugin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

CONFIG: Mapping[str, str] = MappingProxyType({"greeting": "Welcome", "vowels": "aeo"})
"""Config of every plugin: what it changes is seen in the outputs."""

WARM_CALLS = 200
"""Calls that a median is taken of, at most."""

_WARM_SECONDS = 0.1
"""How long one median may take: an interpreter makes fewer calls."""

_NOOP = bytes.fromhex("0061736d01000000 0105016000017f 03020100 0708010466756e630000 0a0601040041000b")
"""A module with one function ``func`` that gives 0."""


@attrs.frozen
class Guest:
    """A plugin that comes with this package.

    Attributes:
        name: Its name in ``guests.toml``.
        language: What it is written in.
        wasm: The binary.
        exports: Functions that can be called.
    """

    name: str
    language: str
    wasm: bytes = attrs.field(repr=False)
    exports: tuple[str, ...]


@attrs.frozen
class Call:
    """One call of the demo."""

    function: str
    data: bytes


CALLS = (
    Call("greet", b"World"),
    # Twice: a variable keeps the total.
    Call("count_vowels", b"Hello, World!"),
    Call("count_vowels", b"Hello, World!"),
    Call("echo", b"any \x00 bytes \xff"),
    Call("fail", b"demo"),
    Call("trap", b""),
)
"""What every guest is asked that exports the function, in this order."""


@attrs.frozen
class Outcome:
    """What a caller sees of a call, or of loading a plugin. Two engines agree if these are equal.

    Attributes:
        output: The output; ``None`` if it failed.
        error: Class of the error.
        text: Text of the error.
        exit_code: Of the error.
    """

    output: bytes | None = None
    error: str | None = None
    text: str | None = None
    exit_code: int | None = None

    @classmethod
    def of_error(cls, error: errors.Error) -> Outcome:
        return cls(error=type(error).__name__, text=str(error), exit_code=error.exit_code)

    def describe(self) -> str:
        """In one line."""
        return repr(self.output) if self.error is None else f"{self.error}: {self.text}"


@attrs.frozen
class CallResult:
    """One call on one engine.

    Attributes:
        call: What was called.
        outcome: What came of it.
        first_seconds: How long it took; ``None`` if the function had been called before.
        warm_seconds: Median of ``warm_calls`` further calls; ``None`` where there were none: functions that fail.
        warm_calls: How many.
    """

    call: Call
    outcome: Outcome
    first_seconds: float | None = None
    warm_seconds: float | None = None
    warm_calls: int = 0


@attrs.frozen
class GuestRun:
    """One plugin on one engine.

    Attributes:
        guest: Its name.
        compile_seconds: From bytes to compiled code.
        create_seconds: From compiled code to a plugin that can be called.
        failure: Why it could not be loaded; then there are no calls.
        calls: In the order of :data:`CALLS`.
        vars: The plugin's variables after these calls.
    """

    guest: str
    compile_seconds: float = 0.0
    create_seconds: float = 0.0
    failure: Outcome | None = None
    calls: tuple[CallResult, ...] = ()
    vars: Mapping[str, bytes] = attrs.field(factory=dict)


@attrs.frozen
class EngineRun:
    """Every plugin on one engine."""

    engine: str
    version: str
    guests: tuple[GuestRun, ...]

    def outcomes(self) -> dict[str, Outcome | dict[str, bytes]]:
        """Everything that other engines must agree on, by what it is the outcome of."""
        found: dict[str, Outcome | dict[str, bytes]] = {}
        for run in self.guests:
            if run.failure is not None:
                found[f"loading {run.guest}"] = run.failure
                continue
            for number, result in enumerate(run.calls, 1):
                found[f"{run.guest}, call {number}, {result.call.function}"] = result.outcome
            found[f"variables of {run.guest}"] = dict(run.vars)
        return found


# -- running -----------------------------------------------------------------------------------------------


class _Folder(Protocol):
    """What is used of a path and of a resource in a package alike."""

    def joinpath(self, child: str, /) -> _Folder: ...
    def read_bytes(self) -> bytes: ...


def load_guests() -> list[Guest]:
    """The plugins that come with this package, in the order of ``guests.toml``."""
    folder = _guests_folder()
    described = tomllib.loads(folder.joinpath("guests.toml").read_bytes().decode("utf-8"))
    guests = []
    for name, fields in described.items():
        binary = folder
        for part in fields["output"].split("/"):
            binary = binary.joinpath(part)
        guests.append(Guest(name, fields["language"], binary.read_bytes(), tuple(fields["exports"])))
    return guests


def _guests_folder() -> _Folder:
    try:
        return importlib.resources.files("extism_engines.suite").joinpath("guests")
    except ModuleNotFoundError:
        # A checkout that is not installed has the suite beside the package.
        return Path(__file__).resolve().parents[2] / "conformance" / "guests"


def run_on(engine: api.Engine, guests: Sequence[Guest]) -> EngineRun:
    """Runs every guest on an engine."""
    # What an engine makes once for all plugins is not part of any plugin's time.
    with Plugin(_NOOP, engine=engine) as plugin:
        plugin.call("func")
    return EngineRun(engine.name, engine.version, tuple(_run_guest(engine, guest) for guest in guests))


def _run_guest(engine: api.Engine, guest: Guest) -> GuestRun:
    compile_seconds = create_seconds = 0.0
    try:
        compiled, compile_seconds = _timed(lambda: CompiledPlugin(guest.wasm, engine=engine))
        plugin, create_seconds = _timed(lambda: Plugin(compiled, config=CONFIG))
    except errors.Error as error:
        return GuestRun(guest.name, compile_seconds, create_seconds, failure=Outcome.of_error(error))
    with plugin:
        calls = [_call(plugin, call) for call in CALLS if call.function in guest.exports]
        vars = dict(plugin.vars)
        results = []
        seen: set[str] = set()
        # Only now: further calls change the variables.
        for result in calls:
            if result.call.function in seen:
                result = attrs.evolve(result, first_seconds=None)
            elif result.outcome.error is None:
                result = _with_warm_calls(plugin, result)
            seen.add(result.call.function)
            results.append(result)
    return GuestRun(guest.name, compile_seconds, create_seconds, calls=tuple(results), vars=vars)


def _call(plugin: Plugin, call: Call) -> CallResult:
    outcome, seconds = _timed(lambda: _outcome(plugin, call))
    return CallResult(call, outcome, first_seconds=seconds)


def _outcome(plugin: Plugin, call: Call) -> Outcome:
    try:
        return Outcome(output=plugin.call(call.function, call.data))
    except errors.Error as error:
        return Outcome.of_error(error)


def _with_warm_calls(plugin: Plugin, result: CallResult) -> CallResult:
    function, data = result.call.function, result.call.data
    times: list[float] = []
    end = time.perf_counter() + _WARM_SECONDS
    while len(times) < WARM_CALLS and (not times or time.perf_counter() < end):
        begin = time.perf_counter()
        plugin.call(function, data)
        times.append(time.perf_counter() - begin)
    return attrs.evolve(result, warm_seconds=statistics.median(times), warm_calls=len(times))


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    begin = time.perf_counter()
    value = function()
    return value, time.perf_counter() - begin


# -- comparing ---------------------------------------------------------------------------------------------


@attrs.frozen
class Comparison:
    """How far engines agree.

    Attributes:
        compared: How many calls, loads and sets of variables there were on each engine.
        differences: One sentence for each that differs.
    """

    compared: int
    differences: tuple[str, ...]


def compare(runs: Sequence[EngineRun]) -> Comparison:
    """Compares what came of everything that was run, bytes, class and text of errors, and variables, but no times."""
    outcomes = {run.engine: run.outcomes() for run in runs}
    places = list(dict.fromkeys(place for results in outcomes.values() for place in results))
    differences = []
    for place in places:
        found = [(engine, results.get(place)) for engine, results in outcomes.items()]
        if any(outcome != found[0][1] for _, outcome in found):
            differences.append(f"{place}: " + "; ".join(f"{engine}: {_in_words(outcome)}" for engine, outcome in found))
    return Comparison(len(places), tuple(differences))


def _in_words(outcome: Outcome | dict[str, bytes] | None) -> str:
    if outcome is None:
        return "nothing"
    return outcome.describe() if isinstance(outcome, Outcome) else repr(outcome)
