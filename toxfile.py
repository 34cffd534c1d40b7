"""What tox does for this project beyond tox.ini: it finds every CPython, and says at the end which engines were tested.

tox loads this file as a plugin because it lies beside tox.ini.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State
from tox.tox_env.errors import Fail, Skip
from tox.tox_env.python.api import Python

# tox imports this file alone; its helpers are no package.
sys.path.append(str(Path(__file__).resolve().parent / ".ci"))

import interpreters
import reports

REPORT_VARIABLE = "EXTISM_ENGINES_TEST_REPORT"
RUN_COMMANDS = {"run", "run-parallel", "legacy", "r", "p", "le"}
MINOR_VERSIONS = range(10, 15)


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    options = state.conf.options
    # Not a setting of PATH: the interpreters' other programs are none of the test environments' business.
    if hasattr(options, "discover"):
        managed = interpreters.find_all(MINOR_VERSIONS, os.environ, Path.home())
        options.discover = [*options.discover, *map(str, managed)]

    # `tox run-parallel` starts one tox per environment; only the outer one speaks for all.
    if options.command in RUN_COMMANDS and "TOX_PARALLEL_ENV" not in os.environ:
        reports.forget(core_conf["work_dir"])
        # tox prints its own summary after the last hook.
        atexit.register(_print_closing_lines, state)


def _print_closing_lines(state: State) -> None:
    selected = [state.envs[name] for name in state.envs.iter(only_active=True)]
    testing = [env for env in selected if isinstance(env, Python) and REPORT_VARIABLE in env.conf["set_env"]]
    if not testing:
        return
    work_dir = state.conf.core["work_dir"]
    found = reports.read_engine_reports(work_dir)
    reporting = {report.environment for report in found}
    absent = {env.conf.name: _why_absent(env) for env in testing if env.conf.name not in reporting}
    print("", reports.read_totals(work_dir), *reports.closing_lines(found, absent), sep="\n", flush=True)


def _why_absent(env: Python) -> str:
    try:
        env.base_python  # noqa: B018 (the property looks for it)
    except (Skip, Fail):
        return reports.NO_PYTHON
    return reports.BROKE_OFF
