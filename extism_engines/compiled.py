"""Compiled plugins: everything about a plugin that many instances share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import attrs

from . import wasm
from .engines import api, candidates, parse_text
from .errors import Error, InstantiationError, InvalidModuleError, LinkError, ModuleError, UnsupportedFeatureError
from .host.functions import HOST_FN_REGISTRY, Function, check_functions
from .kernel import NAMESPACE, KernelCode
from .limits import Limits
from .linking import MAIN, Linkable
from .manifest import COMPILE_PREFIX, Manifest
from .sources import ModuleBytes, Source, load_modules, to_manifest


class CompiledPlugin:
    """A plugin whose modules are fetched, checked and compiled; ``Plugin(compiled)`` makes instances of it.

    May be shared between threads. Holds compiled code only; nothing of it runs until there is an instance.
    """

    def __init__(
        self,
        plugin: Source,
        wasi: bool = False,
        functions: Iterable[Function] | None = HOST_FN_REGISTRY,
        *,
        engine: str | api.Engine | None = None,
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            plugin: A path, the content of a module or manifest, a mapping or a :class:`Manifest`.
            wasi: Whether the plugin may use WASI. This version has none: a plugin that imports it is refused.
            functions: Host functions; by default every one that was registered in this process so far.
            engine: Name of the engine, or an engine; ``None`` for the default.
            limits: What each instance may take.

        Raises:
            EngineNotFoundError, EngineUnavailableError: There is no such engine, or it cannot run here.
            ManifestError, SourceError: The manifest is faulty, or a module cannot be had.
            ModuleError: A module is malformed or invalid.
            UnsupportedFeatureError: Something is asked for that the engine, or this version, cannot do.
        """
        engines = iter([engine]) if isinstance(engine, api.Engine) else candidates(engine)
        self.engine = next(engines)
        self.functions: tuple[Function, ...] = check_functions(functions)
        self.wasi = wasi
        self.manifest = to_manifest(plugin)
        self.limits = _with_manifest(limits or Limits(), self.manifest)
        _refuse_what_is_missing(self.manifest)
        modules = load_modules(self.manifest, lambda text: parse_text(text, self.engine), self.limits.module_bytes)
        self._compile_all(modules, engines)

    def _compile_all(self, modules: list[ModuleBytes], others: Iterator[api.Engine]) -> None:
        """Compiles on the first engine that runs what the modules need: that is what ``auto`` and ``wasmer`` mean."""
        refusal: UnsupportedFeatureError | None = None
        for engine in itertools.chain([self.engine], others):
            self.engine = engine
            try:
                self.kernel_code = KernelCode.of(self.engine)
                self.linkables = [self._compile(module) for module in modules]
                return
            except Error as error:
                error.add_context(engine=engine.name)
                if not isinstance(error, UnsupportedFeatureError):
                    raise
                refusal = refusal or error
        assert refusal is not None  # the loop ran at least once
        raise refusal

    @property
    def main(self) -> Linkable:
        """The module whose exports are called."""
        return next(linkable for linkable in self.linkables if linkable.name == MAIN)

    def _compile(self, source: ModuleBytes) -> Linkable:
        """Validates the module as it is, then rewrites and compiles it."""
        engine = self.engine
        try:
            summary = wasm.read_module(source.wasm)
            self._validate(source, summary)
            prepared = wasm.prepare(source.wasm, self._needs())
            module = engine.compile(prepared.wasm)
        except (ModuleError, LinkError, InstantiationError) as error:
            which = f" (module `{source.name}`)" if len(self.manifest.wasm) > 1 else ""
            error.args = (f"{COMPILE_PREFIX}{error}{which}",)
            raise
        return Linkable(
            name=source.name,
            module=module,
            imports=summary.imports,
            exports={export.name: export.type for export in summary.exports},
            start_export=prepared.start_export,
            stack_reserve=prepared.stack_reserve,
        )

    def _needs(self) -> wasm.Needs:
        return wasm.Needs(
            stack_budget=not self.engine.capabilities.guards_stack,
            memory_pages=self.limits.memory_pages,
            table_elements=self.limits.table_elements,
            # Calls into the kernel return without calling back, so they need no charge.
            leaf_imports=frozenset((NAMESPACE, name) for name in self.kernel_code.guest_functions),
        )

    def _validate(self, source: ModuleBytes, summary: wasm.ModuleSummary) -> None:
        """Checks the module as its author wrote it. What needs more than the engine has is refused in our words; and
        what the engine would take but compute wrongly, too. Every instruction is looked at only where that matters."""
        self._refuse_proposals(source, summary.proposals)
        if self.limits.memory_pages is not None and "gc" in summary.proposals:
            raise UnsupportedFeatureError(
                f"{COMPILE_PREFIX}module `{source.name}` keeps data on the garbage collected heap, "
                "which the limit on memory does not cover"
            )
        if self.engine.capabilities.refused:
            self._refuse_proposals(source, wasm.needed_proposals(source.wasm))
        try:
            self.engine.validate(source.wasm)
        except InvalidModuleError:
            self._refuse_proposals(source, wasm.needed_proposals(source.wasm))
            raise

    def _refuse_proposals(self, source: ModuleBytes, needed: frozenset[str]) -> None:
        capabilities = self.engine.capabilities
        lacking = sorted(needed - capabilities.proposals)
        if lacking:
            reasons = [capabilities.refused[name] for name in lacking if name in capabilities.refused]
            why = f" ({'; '.join(reasons)})" if reasons else ""
            raise UnsupportedFeatureError(
                f"{COMPILE_PREFIX}module `{source.name}` needs {', '.join(lacking)}, "
                f"which the engine {self.engine.name} {self.engine.version} does not run{why}",
                engine=self.engine.name,
            )


def _with_manifest(limits: Limits, manifest: Manifest) -> Limits:
    """The stricter of the caller's limits and the manifest's."""
    asked = [pages for pages in (limits.memory_pages, manifest.memory.max_pages) if pages is not None]
    return attrs.evolve(limits, memory_pages=min(asked) if asked else None)


def _refuse_what_is_missing(manifest: Manifest) -> None:
    """A limit that this version cannot enforce is refused, never ignored."""
    if manifest.timeout_ms is not None:
        raise UnsupportedFeatureError("timeout_ms: this version cannot stop a running plugin")
