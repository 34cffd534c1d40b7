"""Builds the kernel and its entry thunks from their text: ``python tools/build_kernel.py``.

The built files are committed, so that nobody needs a text parser to run plugins; a test compares them with their
source.
"""

from __future__ import annotations

import pathlib

from extism_engines.engines import get_engine

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "extism_engines" / "kernel"


def build() -> dict[pathlib.Path, bytes]:
    """What each built file should hold."""
    engine = get_engine("wasmtime")
    return {path.with_suffix(".wasm"): engine.parse_text(path.read_text("utf-8")) for path in FOLDER.glob("*.wat")}


if __name__ == "__main__":
    for path, wasm in sorted(build().items()):
        path.write_bytes(wasm)
        print(f"{path.name}: {len(wasm)} bytes")
