"""Nothing of a plugin stays behind, and what is kept goes on, on every engine."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api

from .support import CALL_BACK, ECHO, binary, plugin, plugin_text


def test_a_forgotten_plugin_is_collected(engine: api.Engine) -> None:
    @extism.host_fn(name="back", signature=([], []))
    def back(_plugin: Any, _inputs: Any, _outputs: Any) -> None:
        pass

    def make() -> weakref.ref[extism.Plugin]:
        made = plugin(engine, f'{ECHO} (func (export "f") (call $back))', CALL_BACK, functions=[back])
        made.call("f")
        return weakref.ref(made)

    references = [make() for _ in range(5)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


def test_whatever_is_kept_goes_on(engine: api.Engine) -> None:
    """Drop every reference but one: what is left works as long as it is held."""
    kept: list[Any] = []

    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        kept.append(current)
        kept.append(current.memory(current.alloc(8)))

    def make() -> list[Any]:
        compiled = extism.CompiledPlugin(
            binary(plugin_text(f'{ECHO} (func (export "f") (call $back))', CALL_BACK)), engine=engine, functions=[back]
        )
        made = extism.Plugin(compiled, config={"a": "b"})
        made.call("f")
        made.vars["v"] = b"1"
        return [compiled, extism.Plugin(compiled).call, made.vars, made.config]

    compiled, call, variables, config = make()
    current, view = kept
    kept.clear()
    gc.collect()
    for _ in range(20):
        plugin(engine, ECHO).call("echo", b"others come and go")
    gc.collect()
    assert call("echo", b"call alone") == b"call alone"
    assert extism.Plugin(compiled).call("echo", b"x") == b"x"
    assert (dict(variables), dict(config)) == ({"v": b"1"}, {"a": "b"})
    view[:] = b"12345678"
    assert view[:] == b"12345678"
    assert current.config["a"] == "b"


def test_views_refuse_after_close(engine: api.Engine) -> None:
    kept: list[Any] = []

    @extism.host_fn(name="back", signature=([], []))
    def back(current: extism.CurrentPlugin, _inputs: Any, _outputs: Any) -> None:
        kept.extend((current.memory(current.alloc(8)), current))

    with plugin(engine, '(func (export "f") (call $back))', CALL_BACK, functions=[back]) as made:
        made.call("f")
    view, current = kept
    with pytest.raises(extism.PluginClosedError):
        view[:]
    with pytest.raises(extism.PluginClosedError):
        view[:] = b"12345678"
    with pytest.raises(extism.PluginClosedError):
        current.alloc(5)


def test_finalizers_of_a_garbage_cycle_may_use_the_plugin(engine: api.Engine) -> None:
    """The collector runs them in any order: the plugin works or refuses, and nothing is freed under its hands."""
    seen: list[str] = []

    class Holder:
        def __init__(self) -> None:
            self.me = self
            self.plugin = plugin(engine, ECHO)
            self.plugin.call("echo", b"x")

        def __del__(self) -> None:
            try:
                seen.append(str(self.plugin.call("echo", b"x")))
            except (extism.Error, ReferenceError) as error:
                seen.append(type(error).__name__)

    for _ in range(5):
        Holder()
    gc.collect()
    assert len(seen) == 5
    with plugin(engine, ECHO) as made:
        assert made.call("echo", b"fine") == b"fine"
