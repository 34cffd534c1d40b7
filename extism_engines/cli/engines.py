"""``extism-engines engines``: which engines there are, which of them can run here, and which one is taken."""

from __future__ import annotations

import json
import os
import textwrap
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import errors
from ..engines import ALIASES, ENVIRONMENT_VARIABLE, EngineInfo, default_engine, get_engine
from ..engines import engines as list_engines
from .console import settings, shared_options, standard_output, stdout_console

_WIDTH = 64
"""Columns of the widest column."""


@attrs.frozen
class Choice:
    """What a plugin that is started now would run on.

    Attributes:
        name: What was asked for, perhaps an alias such as ``auto``.
        source: Who asked: ``option``, ``environment``, ``setting`` or ``auto``.
        engine: The engine that it comes to; ``None`` if there is none.
        problem: Why there is none.
    """

    name: str
    source: str
    engine: str | None
    problem: str | None = None

    def reason(self) -> str:
        """Why this engine, in a few words."""
        by = {
            "option": "by the option --engine",
            "environment": f"by the environment variable {ENVIRONMENT_VARIABLE}",
            "setting": "by set_default_engine()",
            "auto": f"the first of {', '.join(ALIASES['auto'])} that can run here",
        }[self.source]
        return by if self.name == self.engine or self.source == "auto" else f"{self.name!r} {by}"


def choose(option: str | None = None) -> Choice:
    """What would be taken: by the option, the environment variable, the setting, or automatically, in this order."""
    name = default_engine() if option is None else option
    if option is not None:
        source = "option"
    elif os.environ.get(ENVIRONMENT_VARIABLE):
        source = "environment"
    else:
        source = "auto" if name == "auto" else "setting"
    try:
        return Choice(name, source, get_engine(name).name)
    except errors.EngineError as error:
        if option is not None:
            raise
        return Choice(name, source, None, str(error))


@click.command(short_help="List the engines.")
@click.option("--engine", metavar="ENGINE", help="Tell which engine this name stands for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@shared_options
@click.pass_context
def engines(context: click.Context, engine: str | None, as_json: bool) -> None:
    """List the engines: what can run here, what it can do, and which one is the default."""
    standard_output()
    found = list_engines()
    choice = choose(engine)
    if as_json:
        described = {"engines": [describe(info) for info in found], "default": attrs.asdict(choice)}
        click.echo(json.dumps(described, indent=2))
        return
    console = stdout_console(settings(context))
    console.print(_table(found, choice))
    show_unavailable(console, found)
    if choice.engine is None:
        console.print(f"default: none ({choice.reason()}): {choice.problem}", soft_wrap=True)
    else:
        console.print(f"default: {choice.engine} ({choice.reason()})", soft_wrap=True)


def describe(info: EngineInfo) -> dict[str, Any]:
    """An engine as JSON shows it."""
    described = attrs.asdict(info)
    if info.capabilities is not None:
        described["capabilities"]["proposals"] = sorted(info.capabilities.proposals)
    return described


def _table(found: list[EngineInfo], choice: Choice) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("engine", overflow="fold")
    table.add_column("version", overflow="fold")
    table.add_column("what it can do", overflow="fold")
    for info in found:
        marked = Text(info.name)
        if info.name == choice.engine:
            marked.append(" (default)", "green")
        if info.available:
            table.add_row(marked, info.version, "\n".join(_abilities(info)))
        else:
            table.add_row(marked, "-", Text("not available", "red"))
    return table


def _abilities(info: EngineInfo) -> list[str]:
    can = info.capabilities
    assert can is not None
    meanwhile = "run" if can.releases_gil else "wait"
    thread = "stays on the thread that made it" if can.thread_bound else "may change threads"
    proposals = f"proposals: {', '.join(sorted(can.proposals)) or 'none'}"
    return [
        f"other Python threads {meanwhile} meanwhile; a plugin {thread}",
        # Wrapped here, so that it is as readable in a file as on a terminal.
        *textwrap.wrap(proposals, _WIDTH, break_on_hyphens=False),
    ]


def show_unavailable(console: Console, found: list[EngineInfo]) -> None:
    """For each engine that cannot run here: why, and what to do; then each alias that comes to nothing."""
    missing = [info for info in found if not info.available]
    if missing:
        console.print()
    for info in missing:
        console.print(Text.assemble((info.name, "bold"), f" cannot run here: {info.reason}"), soft_wrap=True)
        console.print(f"  remedy: {info.remedy or 'none is known'}", soft_wrap=True)
    for alias in filter(_comes_to_nothing, ALIASES):
        what = "No engine" if alias == "auto" else f"No {alias.capitalize()}"
        console.print(Text(f"{what} can run here: see above.", "bold"), soft_wrap=True)
    if missing:
        console.print()


def _comes_to_nothing(alias: str) -> bool:
    try:
        get_engine(alias)
    except errors.EngineUnavailableError:
        return True
    return False
