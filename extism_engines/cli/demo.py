"""``extism-engines demo``: the same plugins on every engine that can run here, side by side."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import click
from rich.table import Table
from rich.text import Text

from ..engines import EngineInfo, get_engine
from ..engines import engines as list_engines
from .console import Status, in_one_line, settings, shared_options, standard_output, stdout_console
from .engines import describe, show_unavailable
from .measure import (
    CONFIG,
    WARM_CALLS,
    CallResult,
    Comparison,
    EngineRun,
    Guest,
    GuestRun,
    Outcome,
    compare,
    load_guests,
    run_on,
)


@click.command(short_help="Run the same plugins on every engine and compare.")
@click.option("--engine", "names", metavar="ENGINE", multiple=True, help="Run on this engine; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@shared_options
@click.pass_context
def demo(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Run the same plugins on every engine that can run here, and compare what they do.

    The plugins come with this package: written in C, in AssemblyScript and in WebAssembly text. The exit code is 1
    if the engines differ in any output, error or variable.
    """
    standard_output()  # refused now if it is closed, not after all the work
    guests = load_guests()
    if names:
        unavailable: list[EngineInfo] = []
        # Several names may stand for one engine.
        chosen = list(dict.fromkeys(get_engine(name).name for name in names))
    else:
        found = list_engines()
        unavailable = [info for info in found if not info.available]
        chosen = [info.name for info in found if info.available]
    if not chosen:
        get_engine("auto")  # raises, with every reason and remedy
    runs = [run_on(get_engine(name), guests) for name in chosen]
    comparison = compare(runs)

    if as_json:
        click.echo(json.dumps(_as_json(guests, runs, unavailable, comparison), indent=2))
    else:
        console = stdout_console(settings(context))
        console.print(_table(runs))
        console.print(
            f"Times are in milliseconds. load: compile and create; first: the first call of a function; warm: the "
            f"median of up to {WARM_CALLS} further calls.\nConfig: {', '.join(f'{k}={v}' for k, v in CONFIG.items())}.",
        )
        if not names:
            show_unavailable(console, unavailable)
        for difference in comparison.differences:
            console.print(Text(difference, "red"), soft_wrap=True)
        console.print(Text(_verdict(runs, comparison), "red" if comparison.differences else "green"), soft_wrap=True)
    if comparison.differences:
        context.exit(Status.FAILED)


def _verdict(runs: list[EngineRun], comparison: Comparison) -> str:
    compared, differences = comparison.compared, len(comparison.differences)
    if differences:
        return f"The engines do NOT agree: {differences} of {compared} results differ, see above."
    if len(runs) == 1:
        return f"Only {runs[0].engine} ran ({compared} results): there is nothing to compare it with."
    return f"The {len(runs)} engines agree on all {compared} results: every output, error and variable."


# -- the table ---------------------------------------------------------------------------------------------


def _table(runs: list[EngineRun]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("engine, plugin", overflow="fold")
    table.add_column("load", justify="right", no_wrap=True)
    table.add_column("call", overflow="fold")
    table.add_column("output or error", overflow="fold")
    table.add_column("first", justify="right", no_wrap=True)
    table.add_column("warm", justify="right", no_wrap=True)
    for run in runs:
        table.add_row(Text(run.engine, "bold cyan"), "", "", Text(f"version {run.version}", "cyan"))
        for guest in run.guests:
            _add_guest(table, guest)
    return table


def _add_guest(table: Table, run: GuestRun) -> None:
    name = Text(f"  {run.guest}")
    if run.failure is not None:
        table.add_row(name, "-", "load", _shown(run.failure), "", "")
    load = _milliseconds(run.compile_seconds + run.create_seconds)
    for result in run.calls:
        table.add_row(
            name,
            load,
            result.call.function,
            _shown(result.outcome),
            _milliseconds(result.first_seconds),
            _milliseconds(result.warm_seconds),
        )
        name, load = Text(""), ""


def _shown(outcome: Outcome) -> Text:
    if outcome.output is not None:
        return Text(in_one_line(outcome.output))
    return Text(outcome.describe(), "yellow")


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.3f}"


# -- JSON --------------------------------------------------------------------------------------------------


def _as_json(
    guests: list[Guest], runs: list[EngineRun], unavailable: list[EngineInfo], comparison: Comparison
) -> dict[str, Any]:
    return {
        "config": dict(CONFIG),
        "plugins": [{"name": guest.name, "language": guest.language, "bytes": len(guest.wasm)} for guest in guests],
        "engines": [
            {"name": run.engine, "version": run.version, "plugins": [_guest_json(guest) for guest in run.guests]}
            for run in runs
        ],
        "unavailable": [describe(info) for info in unavailable],
        "differences": list(comparison.differences),
        # With one engine there is nothing to agree on.
        "agreed": not comparison.differences if len(runs) > 1 else None,
    }


def _guest_json(run: GuestRun) -> dict[str, Any]:
    return {
        "name": run.guest,
        "compile_seconds": run.compile_seconds,
        "create_seconds": run.create_seconds,
        "failure": None if run.failure is None else _outcome_json(run.failure),
        "calls": [_call_json(result) for result in run.calls],
        "vars_base64": {name: _base64(value) for name, value in run.vars.items()},
    }


def _call_json(result: CallResult) -> dict[str, Any]:
    return {
        "function": result.call.function,
        "input_base64": _base64(result.call.data),
        **_outcome_json(result.outcome),
        "first_seconds": result.first_seconds,
        "warm_median_seconds": result.warm_seconds,
        "warm_calls": result.warm_calls,
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    fields = attrs.asdict(outcome)
    output = fields.pop("output")
    return {
        "output": None if output is None else in_one_line(output),
        "output_base64": None if output is None else _base64(output),
        **fields,
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


__all__ = ["demo"]
