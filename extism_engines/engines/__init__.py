"""The registry: which engines there are, which of them can run here, and which one to take.

Engines are imported when they are first asked for. Other packages add theirs by an entry point in the group
``extism_engines.engines``: its name is the engine's family, its object a callable ``create(variant: str | None) ->
Engine`` that raises ``EngineUnavailableError`` with a reason and a remedy where the engine cannot run. A callable may
carry an attribute ``variants``, a tuple of names. A broken one is reported by :func:`engines`, and never in the way
of the others.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from .. import errors
from . import api

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "extism_engines.engines"
ENVIRONMENT_VARIABLE = "EXTISM_ENGINE"

Factory = Callable[["str | None"], api.Engine]


@attrs.frozen
class EngineInfo:
    """What is known about one engine on this machine.

    Attributes:
        name: As given to ``Plugin(engine=…)``.
        available: Whether it can run here.
        version: Of the engine; ``None`` where it is not available.
        reason: Why it is not available, in one clause.
        remedy: What to do about that; ``None`` where nothing is known to help.
        capabilities: What it can do; ``None`` where it is not available.
    """

    name: str
    available: bool
    version: str | None = None
    reason: str | None = None
    remedy: str | None = None
    capabilities: api.Capabilities | None = None


@attrs.frozen
class _Family:
    """One family of engines: how to load its factory, and what variants it is known to have."""

    name: str
    load: Callable[[], Factory]
    variants: tuple[str, ...]

    def names(self) -> Iterator[str]:
        yield self.name
        for variant in self.variants:
            yield f"{self.name}:{variant}"


def _built_in(name: str, module: str, variants: tuple[str, ...]) -> _Family:
    def load() -> Factory:
        factory: Factory = importlib.import_module(module, __name__).create
        return factory

    return _Family(name, load, variants)


_BUILT_IN = (
    _built_in("wasmtime", ".wasmtime", ("pulley",)),
    _built_in("wasmer-pypi", ".wasmer_pypi", ("singlepass",)),
)

ALIASES = {
    # The best Wasmer there is. `wasmer-native` registers itself when its package is installed.
    "wasmer": ("wasmer-native", "wasmer-pypi"),
    # Whoever installs the native package wants it; PyPI's Wasmer is old, so it comes last.
    "auto": ("wasmer-native", "wasmtime", "wasmer-pypi"),
}


class _Registry:
    """Engines of this process that were asked for, and how each attempt went."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._outcomes: dict[str, api.Engine | errors.EngineError] = {}
        self._families: list[_Family] | None = None
        self.default: str | None = None

    def engine(self, name: str) -> api.Engine:
        with self._lock:
            if self._pid != os.getpid():
                # A forked child makes its own: compiler threads of the parent do not live in it.
                self._pid = os.getpid()
                self._outcomes.clear()
            outcome = self._outcomes.get(name)
            if outcome is None:
                try:
                    outcome = _create(name)
                except errors.EngineError as error:
                    outcome = error
                self._outcomes[name] = outcome
            if isinstance(outcome, api.Engine):
                return outcome
            raise copy.copy(outcome) from outcome.__cause__

    def families(self) -> list[_Family]:
        with self._lock:
            if self._families is None:
                self._families = _find_families()
            return self._families


_registry = _Registry()


def get_engine(name: str | None = None) -> api.Engine:
    """The engine of that name, made at the first request and shared in this process.

    Args:
        name: ``family`` or ``family:variant``; ``wasmer`` for the best Wasmer present, ``auto`` for the first engine of
            the default order that can run here. ``None`` takes the environment variable ``EXTISM_ENGINE``, then
            what :func:`set_default_engine` said, then ``auto``.

    Raises:
        EngineNotFoundError: No engine goes by that name.
        EngineUnavailableError: It cannot run here; the text says why and what to do.
    """
    return next(candidates(name))


def candidates(name: str | None = None) -> Iterator[api.Engine]:
    """The engines that a name may mean, best first: one, or for ``wasmer`` and ``auto`` all of theirs that can run
    here. Each is loaded when it is asked for. Arguments and errors are those of :func:`get_engine`.
    """
    wanted = name if name is not None else default_engine()
    if not isinstance(wanted, str):
        raise TypeError(f"an engine is named by a str, not by {type(wanted).__name__}")
    if wanted not in ALIASES:
        yield _registry.engine(wanted)
        return
    known = {family.name for family in _registry.families()}
    reasons = []
    found = False
    for candidate in ALIASES[wanted]:
        if candidate not in known:
            continue
        try:
            engine = _registry.engine(candidate)
        except errors.EngineUnavailableError as error:
            reasons.append(error)
        else:
            found = True
            yield engine
    if found:
        return
    what = "no engine" if wanted == "auto" else f"no engine {wanted!r}"
    raise errors.EngineUnavailableError(
        f"{what} can run here: " + "; ".join(str(error) for error in reasons),
        reason="; ".join(f"{error.engine}: {error.reason}" for error in reasons),
        remedy="; or ".join(error.remedy for error in reasons if error.remedy) or None,
        engine=wanted,
    )


def parse_text(text: str, preferred: api.Engine) -> bytes:
    """Turns the WebAssembly text format into a binary module, by the first engine that can: the preferred one, then
    those of ``auto``.

    Raises:
        MalformedModuleError: The text does not parse.
        UnsupportedFeatureError: No engine here reads text.
    """
    for engine in itertools.chain([preferred], candidates("auto")):
        try:
            return engine.parse_text(text)
        except errors.UnsupportedFeatureError:
            continue
    raise errors.UnsupportedFeatureError(
        "no engine here reads the WebAssembly text format; convert the module to binary, or pip install wasmtime"
    )


def default_engine() -> str:
    """The name that is used when none is given."""
    return os.environ.get(ENVIRONMENT_VARIABLE) or _registry.default or "auto"


def set_default_engine(name: str | None) -> None:
    """Sets the engine for plugins that name none; the environment variable ``EXTISM_ENGINE`` goes before it.

    Args:
        name: As for :func:`get_engine`; ``None`` takes the setting back.

    Raises:
        EngineNotFoundError: No engine goes by that name. Whether it can run is seen when it is used.
    """
    if name is not None and name not in ALIASES:
        _family_and_variant(name)
    _registry.default = name


def engine_names() -> list[str]:
    """The names of every known engine with its variants, whether it can run here or not. Loads none of them."""
    return [name for family in _registry.families() for name in family.names()]


def engines() -> list[EngineInfo]:
    """Every known engine, each with its variants, and for those that cannot run here why not."""
    return [_info(name) for name in engine_names()]


def _info(name: str) -> EngineInfo:
    try:
        engine = _registry.engine(name)
    except errors.EngineUnavailableError as error:
        return EngineInfo(name, available=False, reason=error.reason, remedy=error.remedy)
    return EngineInfo(name, available=True, version=engine.version, capabilities=engine.capabilities)


def _create(name: str) -> api.Engine:
    family, variant = _family_and_variant(name)
    try:
        engine = family.load()(variant)
    except errors.EngineUnavailableError as error:
        raise _unavailable(name, error.reason, error.remedy) from error
    except Exception as error:
        # Somebody else's engine may fail in any way while it loads. That is a fact about it, not a reason to fail here.
        raise _unavailable(name, f"it failed to load ({type(error).__name__}: {error})", None) from error
    found = getattr(engine, "api_version", None)
    if not isinstance(engine, api.Engine) or found != api.API_VERSION:
        raise _unavailable(
            name,
            f"it is written for version {found} of the engine contract; this package has {api.API_VERSION}",
            "install versions of the two that fit together",
        )
    return engine


def _unavailable(name: str, reason: str, remedy: str | None) -> errors.EngineUnavailableError:
    text = f"engine {name!r} cannot run here: {reason}" + (f" (remedy: {remedy})" if remedy else "")
    return errors.EngineUnavailableError(text, reason=reason, remedy=remedy, engine=name)


def _family_and_variant(name: str) -> tuple[_Family, str | None]:
    head, separator, variant = name.partition(":")
    families = _registry.families()
    for family in families:
        if family.name == head:
            if separator and family.variants and variant not in family.variants:
                break
            return family, variant if separator else None
    known = [*engine_names(), *ALIASES]
    raise errors.EngineNotFoundError(f"no engine is called {name!r}; there are {', '.join(known)}", engine=name)


def _find_families() -> list[_Family]:
    import importlib.metadata  # a fifth of the time that importing this package would take

    found = list(_BUILT_IN)
    taken = {family.name for family in found} | set(ALIASES)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name not in taken:
            found.append(_Family(point.name, point.load, _variants(point)))
            taken.add(point.name)
    return found


def _variants(point: EntryPoint) -> tuple[str, ...]:
    try:
        return tuple(getattr(point.load(), "variants", ()))
    except Exception:
        return ()  # reported with its reason when the engine itself is asked for


__all__ = [
    "ALIASES",
    "ENTRY_POINTS",
    "ENVIRONMENT_VARIABLE",
    "EngineInfo",
    "candidates",
    "default_engine",
    "engine_names",
    "engines",
    "get_engine",
    "parse_text",
    "set_default_engine",
]
