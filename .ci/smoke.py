"""Tries an installed extism-engines: the right files, a shipped guest on an engine, the command.

python -I .ci/smoke.py wheel|editable CHECKOUT
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import subprocess
import sys
import sysconfig
from pathlib import Path

import extism_engines


def main(kind: str, checkout: Path) -> None:
    package = Path(extism_engines.__file__).resolve().parent
    in_checkout = package == checkout / "extism_engines"
    assert in_checkout == (kind == "editable"), f"{kind}: imported from {package}"
    assert importlib.metadata.version("extism-engines") == extism_engines.__version__

    suite = importlib.resources.files("extism_engines.suite")
    guest = (suite / "guests" / "c" / "guest.wasm").read_bytes()
    with extism_engines.Plugin(guest) as plugin:
        assert plugin.call("greet", b"package") == b"Hello, package!"

    command = Path(sysconfig.get_path("scripts")) / "extism-engines"
    subprocess.run([command, "--version"], check=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
