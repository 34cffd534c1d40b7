"""Plugins that call one host function, for tests of host functions."""

from __future__ import annotations

from typing import Any

import pytest

import extism_engines as extism
from extism_engines import Function, HostFunctionError
from extism_engines.engines import api
from extism_engines.wasm.types import FuncType

from .support import F32, F64, I32, I64, plugin

_LETTERS = {I32: "i32", I64: "i64", F32: "f32", F64: "f64"}


def _signature_text(type: FuncType) -> str:
    params = " ".join(map(_LETTERS.__getitem__, type.params))
    results = " ".join(map(_LETTERS.__getitem__, type.results))
    return f"(param {params}) (result {results})"


def calling(engine: api.Engine, function: Function, body: str, **options: Any) -> extism.Plugin:
    """A plugin that imports a function as ``$f`` and has this body for its export ``run``. Its result is the status."""
    module, field = function.key
    imports = f'(import "{module}" "{field}" (func $f {_signature_text(function.wasm_type)}))'
    options.setdefault("functions", [function])
    return plugin(engine, f'(func (export "run") (result i32) {body})', imports, **options)


def echo_through(engine: api.Engine, function: Function, data: bytes | str = b"") -> bytes:
    """The block that the function makes of the input."""
    with calling(engine, function, "(call $out (call $f (call $input_offset))) (i32.const 0)") as made:
        output: bytes = made.call("run", data)
        return output


def holds(engine: api.Engine, function: Function, condition: str) -> bool:
    """Whether a guest finds that a condition holds."""
    with calling(engine, function, f"(i32.eqz {condition})") as made:
        try:
            made.call("run")
        except extism.GuestError as error:
            assert error.exit_code == 1
            return False
        return True


def fails(engine: api.Engine, function: Function, body: str) -> HostFunctionError:
    """The error that ends a call of this body."""
    with calling(engine, function, body) as made:
        with pytest.raises(HostFunctionError) as caught:
            made.call("run", "x")
        return caught.value


def status(made: extism.Plugin) -> int:
    """The status that ``run`` returns."""
    try:
        made.call("run")
    except extism.GuestError as error:
        assert error.exit_code is not None
        return error.exit_code
    return 0
