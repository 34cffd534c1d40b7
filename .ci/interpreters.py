"""CPython installations, those included that a version manager keeps off PATH.

    python .ci/interpreters.py 3.10      prints the path of one and exits with 0, or exits with 1

pyenv puts a `python3.10` on PATH that fails unless 3.10 is the active version, so tox finds only that one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# Folder names of final releases: "3.10.13" with pyenv, asdf and mise; "cpython-3.10.13-linux-x86_64-gnu" with uv.
RELEASE = re.compile(r"3\.(\d+)\.(\d+)|cpython-3\.(\d+)\.(\d+)-[^+]+")


def manager_folders(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Where version managers keep one folder per installation; not all of them exist."""

    def folder(variable: str, default: str) -> Path:
        return Path(environment.get(variable) or home / default)

    return [
        folder("PYENV_ROOT", ".pyenv") / "versions",
        folder("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python"),
        folder("ASDF_DATA_DIR", ".asdf") / "installs" / "python",
        folder("MISE_DATA_DIR", ".local/share/mise") / "installs" / "python",
    ]


def works(executable: Path, minor: int) -> bool:
    """Whether this is a CPython 3.`minor` that starts."""
    code = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}) or sys.implementation.name != 'cpython')"
    try:
        done = subprocess.run([executable, "-I", "-c", code], capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def managed(minor: int, environment: Mapping[str, str], home: Path) -> Path | None:
    """The newest working CPython 3.`minor` of a version manager."""
    found: list[tuple[int, Path]] = []
    for folder in manager_folders(environment, home):
        if not folder.is_dir():
            continue
        for installation in sorted(folder.iterdir()):
            match = RELEASE.fullmatch(installation.name)
            if match and int(match[1] or match[3]) == minor:
                found.append((int(match[2] or match[4]), installation / "bin" / f"python3.{minor}"))
    newest_first = sorted(found, key=lambda item: item[0], reverse=True)
    return next((executable for _, executable in newest_first if works(executable, minor)), None)


def on_path(minor: int, environment: Mapping[str, str]) -> Path | None:
    """The first working `python3.<minor>` on PATH."""
    for folder in environment.get("PATH", "").split(os.pathsep):
        executable = Path(folder) / f"python3.{minor}"
        if folder and works(executable, minor):
            return executable
    return None


def find_all(minors: range, environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """One managed interpreter for each minor version that has any."""
    for minor in minors:
        executable = managed(minor, environment, home)
        if executable is not None:
            yield executable


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    minor = int(arguments[0].removeprefix("3."))
    executable = on_path(minor, os.environ) or managed(minor, os.environ, Path.home())
    if executable is None:
        return 1
    print(executable)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
