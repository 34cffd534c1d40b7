"""What test runs left behind: which engines were tested where, and how many tests passed.

    python .ci/reports.py WORK_DIR totals            prints "N passed, N failed, N skipped" of the last tox run
    python .ci/reports.py WORK_DIR tested ENGINE     exits with 0 if it tested that engine anywhere, else with 1

A test run writes two files into tox's work folder:

- `engine-reports/<environment>.json`, by tests/conftest.py:
  {"python": "3.10.13", "engines": {"wasmtime": {"version": "50.0.1", "tests": 120, "failed": 0}},
   "unavailable": {"wasmer-native": "why it could not be tested"}}
- `test-results/<environment>.xml`, by pytest --junitxml.
"""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENGINE_REPORTS = "engine-reports"
TEST_RESULTS = "test-results"

# The environment that can have PyPI's wasmer, whose last binaries are for CPython 3.10.
WASMER_ENVIRONMENT = "py310"

# Why an environment that should have written a report did not.
NO_PYTHON = "its Python was not found"
BROKE_OFF = "it broke off before it could say which engines it tested"


@dataclass(frozen=True)
class EngineResult:
    """How one engine did in one environment."""

    version: str
    tests: int
    failed: int


@dataclass(frozen=True)
class EngineReport:
    """What one environment's test run says about engines; `unavailable` holds a reason for each engine."""

    environment: str
    python: str
    engines: Mapping[str, EngineResult]
    unavailable: Mapping[str, str]


@dataclass(frozen=True)
class Totals:
    """Numbers of tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def forget(work_dir: Path) -> None:
    """Removes what an earlier run left, so that nothing old is taken for new."""
    for name in (ENGINE_REPORTS, TEST_RESULTS):
        if (work_dir / name).exists():
            shutil.rmtree(work_dir / name)


def read_engine_reports(work_dir: Path) -> list[EngineReport]:
    """The reports of the last run, by environment name."""
    return [_read_engine_report(path) for path in sorted((work_dir / ENGINE_REPORTS).glob("*.json"))]


def _read_engine_report(path: Path) -> EngineReport:
    data = json.loads(path.read_text(encoding="utf-8"))
    engines = {
        name: EngineResult(version=result["version"], tests=result["tests"], failed=result["failed"])
        for name, result in data["engines"].items()
    }
    return EngineReport(path.stem, data["python"], engines, data["unavailable"])


def read_totals(work_dir: Path) -> Totals:
    """The test counts of the last run, all environments together. An error counts as a failure."""
    total = Totals()
    for path in sorted((work_dir / TEST_RESULTS).glob("*.xml")):
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            passed = int(suite.get("tests", 0)) - failed - skipped
            total = Totals(total.passed + passed, total.failed + failed, total.skipped + skipped)
    return total


def closing_lines(reports: Sequence[EngineReport], absent: Mapping[str, str]) -> list[str]:
    """Which engines were tested and which were not, and why.

    Args:
        reports: Of the environments that ran.
        absent: Environments that should have written a report and did not, with the reason.
    """
    names = dict.fromkeys(name for report in reports for name in (*report.engines, *report.unavailable))
    lines = [_engine_line(name, reports) for name in names]
    lines += [f"{environment}: nothing was tested: {reason}" for environment, reason in absent.items()]
    if not any(_tested(name, report) for name in names if name.startswith("wasmer") for report in reports):
        lines.append(f"NO WASMER WAS TESTED: {_why_no_wasmer(reports, absent)}")
    return lines


def _tested(name: str, report: EngineReport) -> bool:
    return name in report.engines and report.engines[name].tests > 0


def _engine_line(name: str, reports: Sequence[EngineReport]) -> str:
    tested = [report for report in reports if _tested(name, report)]
    others: dict[str, list[str]] = {}
    for report in reports:
        if report not in tested:
            reason = report.unavailable.get(name, "no test asked for it")
            others.setdefault(reason, []).append(report.environment)
    not_tested = [f"{' '.join(environments)} ({reason})" for reason, environments in others.items()]
    if not tested:
        return f"{name}: not tested on {', '.join(not_tested)}"

    versions = dict.fromkeys(report.engines[name].version for report in tested)
    counts: dict[int, list[str]] = {}
    for report in tested:
        counts.setdefault(report.engines[name].tests, []).append(report.environment)
    line = f"{name} {', '.join(versions)}: " + ", ".join(
        f"{count} tests on {'each of ' if len(environments) > 1 else ''}{' '.join(environments)}"
        for count, environments in counts.items()
    )
    failed = sum(report.engines[name].failed for report in tested)
    if failed:
        line += f", {failed} FAILED"
    if not_tested:
        line += f"; not tested on {', '.join(not_tested)}"
    return line


def _why_no_wasmer(reports: Sequence[EngineReport], absent: Mapping[str, str]) -> str:
    need = "PyPI's wasmer needs CPython 3.10 on x86-64"
    if WASMER_ENVIRONMENT in absent:
        reason = absent[WASMER_ENVIRONMENT]
        remedy = " Install it (for example: pyenv install 3.10) and run tox again." if reason == NO_PYTHON else ""
        return f"{need}. {WASMER_ENVIRONMENT}: {reason}.{remedy}"
    report = next((report for report in reports if report.environment == WASMER_ENVIRONMENT), None)
    if report is None:
        return f"{need}. {WASMER_ENVIRONMENT} was not asked for: tox run -e {WASMER_ENVIRONMENT}"
    reasons = [f"{name}: {reason}" for name, reason in report.unavailable.items() if name.startswith("wasmer")]
    return f"{need}. {WASMER_ENVIRONMENT}: {'; '.join(reasons) or 'no test asked for it'}."


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    work_dir, question = Path(arguments[0]), arguments[1]
    if question == "totals":
        print(read_totals(work_dir))
        return 0
    if question == "tested":
        return 0 if any(_tested(arguments[2], report) for report in read_engine_reports(work_dir)) else 1
    raise SystemExit(f"{question!r} is neither totals nor tested")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
