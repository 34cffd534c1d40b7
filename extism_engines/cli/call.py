"""``extism-engines call``: one call of one function."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from .. import errors
from ..host.logs import LEVELS
from ..limits import Limits
from ..manifest import UNKNOWN_FORMAT, Manifest
from ..plugin import Plugin
from ..sources import is_url, read_manifest, to_manifest
from .console import Failure, Status, printable, shared_options, standard_input, standard_output

_OFF = "off"

_WHAT_FILE_IS = "FILE is a WebAssembly module (binary or text) or a manifest (JSON or TOML)"
_WHAT_MANIFEST_IS = "with --manifest, FILE is a manifest (JSON or TOML)"
_WHAT_MODULES_ARE = (
    "FILE is a whole core module of WebAssembly (binary or text), or a manifest of such modules; "
    "correct it, or build or fetch it anew"
)
_WHAT_COMPONENTS_ARE = "FILE is a core module, not a component: build it for wasm32-unknown-unknown or wasm32-wasip1"


class _File(click.Path):
    """The path of a file that is there; or a URL, as it is, for the library to refuse in its own words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value) and not os.path.exists(value):
            return value
        return super().convert(value, param, ctx)


def _parse_config(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    config = {}
    for item in given:
        key, separator, value = item.partition("=")
        if not key or not separator:
            raise click.BadParameter(f"{item!r} is not of the form KEY=VALUE")
        config[key] = value
    return config


@click.command(short_help="Call a function of a plugin.")
@click.argument("file", type=_File(exists=True, dir_okay=False, path_type=str))
@click.argument("function")
@click.option("-i", "--input", "text", metavar="TEXT", help="Input; without this and --stdin it is empty.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the input, any bytes, from standard input.")
@click.option("--engine", metavar="ENGINE", help="Engine to run on, as listed by `extism-engines engines`.")
@click.option(
    "--config", metavar="KEY=VALUE", multiple=True, callback=_parse_config, help="Config value; may be repeated."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write the output to this file, not to standard output.",
)
@click.option(
    "--memory-max", type=click.IntRange(min=0), metavar="PAGES", help="Limit of each memory, in pages of 64 KiB."
)
@click.option(
    "--log-level",
    type=click.Choice([*LEVELS, _OFF], case_sensitive=False),
    default=_OFF,
    show_default=True,
    help="Write what the plugin logs at this level and above to standard error.",
)
@click.option("-m", "--manifest", "is_manifest", is_flag=True, help="Insist that FILE is a manifest.")
@shared_options
def call(
    file: str,
    function: str,
    text: str | None,
    from_stdin: bool,
    engine: str | None,
    config: dict[str, str],
    output: Path | None,
    memory_max: int | None,
    log_level: str,
    is_manifest: bool,
) -> None:
    """Call FUNCTION of the plugin in FILE.

    FILE is a module (binary or text) or a manifest (JSON or TOML). Standard output gets the plugin's output and
    nothing else, as the bytes that they are; a terminal gets a line end after it if it has none.
    """
    if text is not None and from_stdin:
        raise click.UsageError("--input and --stdin exclude each other")
    if _to_standard_output(output):
        standard_output("standard output is closed; use -o FILE")  # now, before the plugin does something
    data = standard_input().buffer.read() if from_stdin else os.fsencode(text or "")
    manifest = _manifest(file, is_manifest)
    exports: tuple[str, ...] = ()
    try:
        with Plugin(
            manifest,
            config=config,
            engine=engine,
            limits=Limits(memory_pages=memory_max),
            logger=_logger(log_level),
        ) as plugin:
            exports = plugin.exports
            result: bytes = plugin.call(function, data)
    except errors.Error as error:
        # The user knows the plugin by its file, not by the identity it had for a moment.
        error.plugin = file
        raise Failure(error, _next_steps(error, exports, log_level, memory_max)) from error
    _write(result, output)


def _manifest(file: str, is_manifest: bool) -> Manifest:
    """What FILE says to load. Whatever is wrong with FILE at this point is a matter of usage: it is not a plugin."""
    try:
        return read_manifest(file) if is_manifest else to_manifest(file if is_url(file) else Path(file))
    except errors.UnsupportedFeatureError as error:
        raise Failure(error, [f"`curl -fLO {shlex.quote(file)}` fetches it"]) from error
    except errors.Error as error:
        error.plugin = file
        is_no_plugin = isinstance(error, (errors.ModuleError, errors.SourceError)) or str(error).startswith(
            UNKNOWN_FORMAT
        )
        what_it_is = _WHAT_MANIFEST_IS if is_manifest else _WHAT_FILE_IS
        raise Failure(error, [what_it_is] if is_no_plugin else [], Status.USAGE) from error


def _next_steps(error: errors.Error, exports: tuple[str, ...], log_level: str, memory_max: int | None) -> list[str]:
    steps = []
    if isinstance(error, errors.MalformedModuleError):
        return [_WHAT_COMPONENTS_ARE if "WebAssembly component" in str(error) else _WHAT_MODULES_ARE]
    if isinstance(error, errors.FunctionNotFoundError):
        return [f"the plugin exports {', '.join(exports) or 'no function that can be called'}"]
    if isinstance(error, errors.OutOfMemoryError) and memory_max is not None:
        steps.append(f"--memory-max {memory_max} allows {memory_max * 64} KiB; give it more")
    if isinstance(error, errors.CallError) and log_level == _OFF:
        steps.append("--log-level debug shows what the plugin logged")
    return steps


def _logger(level: str) -> logging.Logger:
    """A logger for this plugin alone: it is not in the tree of Python's loggers, so nothing else is written."""
    logger = logging.Logger("plugin", LEVELS.get(level, logging.CRITICAL + 1))
    if level != _OFF:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_LogLine())
        logger.addHandler(handler)
    return logger


class _LogLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = next(name for name, number in LEVELS.items() if number == record.levelno)
        return printable(f"{level}: {record.getMessage()}")


def _to_standard_output(file: Path | None) -> bool:
    return file is None or str(file) == "-"


def _write(output: bytes, file: Path | None) -> None:
    if file is not None and not _to_standard_output(file):
        file.write_bytes(output)
        return
    stream = sys.stdout.buffer
    stream.write(output)
    if sys.stdout.isatty() and output and not output.endswith(b"\n"):
        # For the eye only: the shell's prompt shall not stick to the output.
        stream.write(b"\n")
    stream.flush()
