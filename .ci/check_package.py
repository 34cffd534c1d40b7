"""Builds the source distribution and the wheel, then tries the wheel and an editable installation.

python .ci/check_package.py SCRATCH_FOLDER      installs into the environment of the running Python
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOKE = ROOT / ".ci" / "smoke.py"


def run(*arguments: str | Path, cwd: Path) -> None:
    """Runs Python with these arguments; its output is shown only if it fails."""
    # -I keeps the checkout off the path: what is tried is what was installed.
    command = [sys.executable, "-I", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(command)}")


def check_content(wheel: Path) -> None:
    """What must be in the wheel, as seen from the checkout, and what must not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    code = [path for path in ROOT.glob("extism_engines/**/*") if path.suffix in {".py", ".wasm", ".typed"}]
    wanted = {path.relative_to(ROOT).as_posix() for path in code}
    guests = ROOT.glob("conformance/guests/*/*.wasm")
    wanted |= {f"extism_engines/suite/{path.relative_to(ROOT / 'conformance').as_posix()}" for path in guests}
    missing = sorted(wanted - names)
    stray = sorted(name for name in names if {"tests", "node_modules", "__pycache__"} & set(name.split("/")))
    if missing or stray:
        sys.exit(f"{wheel.name}: missing: {missing}; should not be there: {stray}")


def main(scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    dist = scratch / "dist"
    for old in dist.glob("*"):
        old.unlink()
    # The wheel is made from the source distribution, so both are tried.
    run("-m", "build", "--outdir", dist, ROOT, cwd=scratch)
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    check_content(wheel)

    for kind, source in (("wheel", [f"{wheel}[cli]"]), ("editable", ["--editable", f"{ROOT}[cli]"])):
        run("-m", "pip", "install", "--force-reinstall", *source, cwd=scratch)
        run(SMOKE, kind, ROOT, cwd=scratch)
        print(f"{kind}: ok")
    print(f"built {sdist.name} ({os.stat(sdist).st_size} bytes) and {wheel.name} ({os.stat(wheel).st_size} bytes)")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
