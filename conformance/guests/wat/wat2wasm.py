"""`python wat2wasm.py IN.wat OUT.wasm`: from WebAssembly text to binary, by the parser of the `wasmtime` package."""

from __future__ import annotations

import sys
from pathlib import Path

import wasmtime

source, output = map(Path, sys.argv[1:])
output.write_bytes(wasmtime.wat2wasm(source.read_text(encoding="utf-8")))
