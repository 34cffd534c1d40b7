"""Linking: from compiled modules to instances (section 4 of the protocol's description).

What a module imports is looked for, in this order, among the exports of the manifest's modules, the user's functions,
and the kernel and host functions of ``extism:host/env``. Everything that is missing or does not fit is reported at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from .engines import api
from .errors import LinkError
from .kernel import NAMESPACE
from .wasm.types import ExternType, FuncType, ImportType, MemoryType, TableType, TagType

MAIN = "main"

Provide = Callable[[], api.Extern]
"""Makes the thing that is imported, in the store at hand; called once per store."""


@attrs.frozen(eq=False)
class Linkable:
    """A compiled module of a manifest, ready to be linked.

    Attributes:
        name: What other modules import it by.
        module: The compiled module, possibly rewritten.
        imports: As its author wrote them.
        exports: As its author wrote them.
        start_export: Export that holds the start function since the module was rewritten.
        stack_reserve: Bytes of stack that must lie below its budget, where it counts stack.
    """

    name: str
    module: api.Module
    imports: tuple[ImportType, ...]
    exports: Mapping[str, ExternType]
    start_export: str | None = None
    stack_reserve: int = 0


@attrs.frozen(eq=False)
class Offer:
    """Something to import that is not an export of a manifest module."""

    type: ExternType
    provide: Provide


Offers = Mapping["tuple[str, str]", Offer]


def order(linkables: Sequence[Linkable]) -> list[Linkable]:
    """The order in which to make instances: each after those that it imports from, otherwise by name, ``main`` last.

    Raises:
        LinkError: Modules import from each other in a circle.
    """
    by_name = {linkable.name: linkable for linkable in linkables}
    ordered: list[Linkable] = []
    path: list[str] = []

    def visit(linkable: Linkable) -> None:
        if linkable in ordered:
            return
        if linkable.name in path:
            circle = " -> ".join([*path[path.index(linkable.name) :], linkable.name])
            raise LinkError(f"modules import from each other in a circle, which this version cannot link: {circle}")
        path.append(linkable.name)
        for provider in sorted({wanted.module for wanted in linkable.imports}):
            if provider in by_name and _takes_from(linkable, by_name[provider]):
                visit(by_name[provider])
        path.pop()
        ordered.append(linkable)

    for linkable in sorted(linkables, key=lambda linkable: (linkable.name == MAIN, linkable.name)):
        visit(linkable)
    return ordered


def _takes_from(importer: Linkable, provider: Linkable) -> bool:
    return any(wanted.module == provider.name and wanted.name in provider.exports for wanted in importer.imports)


def check(linkables: Sequence[Linkable], offers: Offers, remedies: Mapping[str, str]) -> None:
    """Looks at every import of every module before anything is made.

    Args:
        linkables: The modules of the manifest.
        offers: What else there is to import.
        remedies: For a namespace that nothing provides, what would.

    Raises:
        LinkError: Some are missing or of the wrong type; the text has a line for each.
    """
    by_name = {linkable.name: linkable for linkable in linkables}
    faults = [
        fault
        for linkable in linkables
        for wanted in linkable.imports
        if (fault := _fault(linkable, wanted, by_name, offers, remedies))
    ]
    if faults:
        raise LinkError("\n".join(dict.fromkeys(faults)))


def _fault(
    linkable: Linkable,
    wanted: ImportType,
    by_name: Mapping[str, Linkable],
    offers: Offers,
    remedies: Mapping[str, str],
) -> str | None:
    place = f"import `{wanted.module}::{wanted.name}` of module `{linkable.name}`"
    if isinstance(wanted.type, TagType):
        return f"this version cannot link exception tags ({place})"
    if wanted.module == NAMESPACE and not isinstance(wanted.type, FuncType):
        return f"linked modules cannot access non-function exports of extism kernel ({place})"
    found = _type_of_provider(wanted, by_name, offers)
    if found is None:
        if wanted.module == NAMESPACE:
            return (
                f"Invalid function import from {NAMESPACE}: {wanted.name} {wanted.type}\n\n"
                f"The plugin may be made for a newer version of Extism than this host implements ({place})."
            )
        remedy = _remedy(wanted, by_name, remedies)
        return f"unknown import: `{wanted.module}::{wanted.name}` has not been defined ({remedy}; {place})"
    if not fits(wanted.type, found):
        return f"types incompatible: expected type {wanted.type}, found type {found} ({place})"
    return None


def _remedy(wanted: ImportType, by_name: Mapping[str, Linkable], remedies: Mapping[str, str]) -> str:
    if wanted.module in by_name:
        return f"module `{wanted.module}` has no such export"
    return remedies.get(wanted.module, f"the manifest has no module `{wanted.module}`, functions=[…] no such function")


def _type_of_provider(wanted: ImportType, by_name: Mapping[str, Linkable], offers: Offers) -> ExternType | None:
    provider = by_name.get(wanted.module)
    if provider is not None and wanted.name in provider.exports:
        return provider.exports[wanted.name]
    offer = offers.get((wanted.module, wanted.name))
    return offer.type if offer is not None else None


def fits(wanted: ExternType, found: ExternType) -> bool:
    """Whether something of type ``found`` may be imported as ``wanted`` (import matching of the core specification)."""
    if isinstance(wanted, MemoryType) and isinstance(found, MemoryType):
        return (
            (wanted.memory64, wanted.shared) == (found.memory64, found.shared)
            and wanted.limits.minimum <= found.limits.minimum
            and _within(wanted.limits.maximum, found.limits.maximum)
        )
    if isinstance(wanted, TableType) and isinstance(found, TableType):
        return (
            (wanted.element, wanted.table64) == (found.element, found.table64)
            and wanted.limits.minimum <= found.limits.minimum
            and _within(wanted.limits.maximum, found.limits.maximum)
        )
    return wanted == found


def _within(wanted: int | None, found: int | None) -> bool:
    return wanted is None or (found is not None and found <= wanted)


def link(
    ordered: Sequence[Linkable], offers: Offers, store: api.Store, started: Callable[[Linkable, api.Instance], None]
) -> dict[str, api.Instance]:
    """Makes an instance of every module.

    Args:
        ordered: The modules, as :func:`order` gave them, after :func:`check`.
        offers: What else there is to import.
        store: Where to make them.
        started: Called after each instance, to run what runs at the start.

    Returns:
        The instances by name of their module.
    """
    instances: dict[str, api.Instance] = {}
    made: dict[tuple[str, str], api.Extern] = {}

    def resolve(wanted: ImportType) -> api.Extern:
        provider = instances.get(wanted.module)
        if provider is not None and wanted.name in provider.exports:
            return provider.exports[wanted.name]
        key = (wanted.module, wanted.name)
        if key not in made:
            made[key] = offers[key].provide()
        return made[key]

    for linkable in ordered:
        instance = store.instantiate(linkable.module, [resolve(wanted) for wanted in linkable.module.imports])
        instances[linkable.name] = instance
        started(linkable, instance)
    return instances
