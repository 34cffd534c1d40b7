"""What a plugin may be made from, how contents are told apart, and the names and bytes of its modules."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import extism_engines as extism
from extism_engines.engines import api
from extism_engines.errors import (
    HashMismatchError,
    MalformedModuleError,
    ManifestError,
    SourceError,
    UnsupportedFeatureError,
)
from extism_engines.manifest import Manifest, WasmSource
from extism_engines.sources import load_modules, read_manifest, to_manifest

from .support import binary

TEXT = '(module (func (export "f")))'
WASM = bytes.fromhex("0061736d01000000")
NOT_FOUND = 'Unable to compile Extism plugin: Unable to load Wasm file "{}": '


class TextEngine(api.Engine):
    """Reads text, and does nothing else."""

    name = "text"
    version = "0"
    capabilities = api.Capabilities(frozenset())

    def compile(self, wasm: bytes) -> api.Module:
        raise AssertionError("nothing is compiled while sources are loaded")

    def new_store(self, main: api.Module | None = None) -> api.Store:
        raise AssertionError("nothing runs while sources are loaded")

    def parse_text(self, text: str) -> bytes:
        return binary(text)


class BinaryEngine(TextEngine):
    """Does not read text either."""

    def parse_text(self, text: str) -> bytes:
        return api.Engine.parse_text(self, text)


def load(manifest: Manifest | dict[str, Any], module_bytes: int | None = None) -> dict[str, bytes]:
    modules = load_modules(to_manifest(manifest), TextEngine().parse_text, module_bytes)
    return {module.name: module.wasm for module in modules}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- what a caller hands over ----------------------------------------------------------------------------------

_DATA = base64.b64encode(WASM).decode()
MANIFEST_JSON = json.dumps({"wasm": [{"data": _DATA}], "config": {"a": "b"}})
MANIFEST_TOML = f"[[wasm]]\ndata = '{_DATA}'\n[config]\na = 'b'"
DECODED = Manifest((WasmSource(data=WASM),), config={"a": "b"})


@pytest.mark.parametrize("content", [WASM, TEXT.encode()], ids=["binary", "text"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_content_of_a_module_as_bytes(kind: Callable[[bytes], Any], content: bytes) -> None:
    assert to_manifest(kind(content)) == Manifest((WasmSource(data=content),))


def test_the_content_of_a_module_as_text() -> None:
    assert to_manifest(TEXT) == Manifest((WasmSource(data=TEXT.encode()),))


@pytest.mark.parametrize("content", [MANIFEST_JSON, MANIFEST_TOML], ids=["json", "toml"])
def test_the_content_of_a_manifest(content: str) -> None:
    for given in (content, content.encode(), bytearray(content.encode()), memoryview(content.encode())):
        assert to_manifest(given) == DECODED


@pytest.mark.parametrize("name", ["plugin.wasm", "a b", "ünï", "(module", "[wasm]", "a=1", "x" * 200])
def test_files(folder: Path, name: str) -> None:
    for content, expected in [
        (WASM, Manifest((WasmSource(data=WASM),))),
        (TEXT.encode(), Manifest((WasmSource(data=TEXT.encode()),))),
        (MANIFEST_JSON.encode(), DECODED),
        (MANIFEST_TOML.encode(), DECODED),
    ]:
        (folder / name).write_bytes(content)
        for given in (name, str(folder / name), Path(name), folder / name):
            assert to_manifest(given) == expected


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"plugin.wasm"


def test_path_likes_of_bytes(folder: Path) -> None:
    with pytest.raises(SourceError):
        to_manifest(BytesPath())  # type: ignore[arg-type]
    (folder / "plugin.wasm").write_bytes(WASM)
    assert to_manifest(BytesPath()) == Manifest((WasmSource(data=WASM),))  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_not_unicode(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wasm")
    with pytest.raises(SourceError, match="entity not found"):
        to_manifest(name)
    (folder / name).write_bytes(WASM)
    assert to_manifest(name) == to_manifest(Path(name)) == Manifest((WasmSource(data=WASM),))


def test_a_mapping_and_a_manifest() -> None:
    assert to_manifest({"wasm": [{"data": WASM}], "config": {"a": "b"}}) == DECODED
    assert to_manifest(DECODED) is DECODED


@pytest.mark.parametrize("given", [None, 5, 1.5, [WASM], (WASM,), object(), {1, 2}])
def test_anything_else_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="a plugin is made from"):
        to_manifest(given)


# -- telling contents apart ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["(module)", "( module)", "(\n\tmodule)", " (module)", "\n\t (  module)", ";; a comment\n(module)",
     "(; c ;)(module)", "  ;; after white space\n(module)"],
)  # fmt: skip
def test_text_format(text: str) -> None:
    assert to_manifest(text) == to_manifest(text.encode()) == Manifest((WasmSource(data=text.encode()),))
    assert load({"wasm": [{"data": text.encode()}]})["main"][:4] == b"\0asm"


def test_nothing_is_an_empty_manifest() -> None:
    for given in ("", b"", "   \n", b"\n"):
        with pytest.raises(ManifestError, match=r"plugin: No wasm files specified in Extism manifest$"):
            to_manifest(given)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\0as\xff", bytes(range(256)), b"\x7fELF\xff" + bytes(100)])
def test_bytes_that_are_neither(content: bytes) -> None:
    with pytest.raises(MalformedModuleError, match=r"neither a WebAssembly module .* nor a manifest"):
        to_manifest(content)


@pytest.mark.parametrize("content", ["(component)", "some text", "PK\3\4", "<html>"])
def test_text_that_is_neither(content: str) -> None:
    with pytest.raises(ManifestError, match=r"^Unable to compile Extism plugin: Unknown manifest format"):
        to_manifest(content.encode())


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", "text", "JSON"),
        ("A.JSON", "[[wasm", "JSON"),
        ("a.toml", "{", "TOML"),
        ("a", "{", "JSON"),
        ("a", ' [ {"wasm": ', "JSON"),
        ("json", "[[wasm]]\npath = 'a'\nx", "TOML"),
        ("a.txt", "text", "TOML"),
    ],
)
def test_a_faulty_file_has_the_fault_of_what_it_was_meant_to_be(
    folder: Path, name: str, content: str, kind: str
) -> None:
    Path(name).write_text(content)
    with pytest.raises(ManifestError, match=rf"Unknown manifest format \(not valid {kind}: .+\)$") as caught:
        to_manifest(name)
    assert type(caught.value.__cause__).__name__ == f"{kind}DecodeError"
    assert caught.value.report() == str(caught.value)


def test_manifests_are_not_nested() -> None:
    with pytest.raises(MalformedModuleError, match=r"wasm\[0\]: the bytes are not a WebAssembly module"):
        load({"wasm": [{"data": MANIFEST_JSON.encode()}]})


@pytest.mark.parametrize(
    ("text", "path"),
    [('{"wasm": [{}]}', "wasm[0]"), ("wasm = [{}]", "wasm[0]"), ("timeout_ms = 'x'", "timeout_ms"), ("x = 1", "x")],
)
def test_a_faulty_manifest_on_one_line_is_no_path(text: str, path: str) -> None:
    with pytest.raises(ManifestError, match="^" + path.replace("[", r"\[") + ": ") as caught:
        to_manifest(text)
    assert not isinstance(caught.value, SourceError)


# -- files that cannot be had ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nowhere.wasm", "dir/nowhere", "C:\\plugin.wasm", "no\\where"])
def test_a_missing_file(folder: Path, name: str) -> None:
    for given in (name, Path(name), {"wasm": [{"path": name}]}):
        with pytest.raises(SourceError) as caught:
            load_modules(to_manifest(given), TextEngine().parse_text)
        assert str(caught.value) == NOT_FOUND.format(name) + f"entity not found ({os.strerror(errno.ENOENT)})"
        assert isinstance(caught.value.__cause__, FileNotFoundError)
        # The cause adds nothing.
        assert caught.value.report() == str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="the reasons of POSIX")
@pytest.mark.parametrize(
    ("name", "why"),
    [("a" * 300, "File name too long"), ("file/x", "Not a directory"), ("nul\0byte.wasm", "embedded null byte")],
)
def test_the_reason_is_the_system_s(folder: Path, name: str, why: str) -> None:
    Path("file").touch()
    for given in (name, Path(name), {"wasm": [{"path": name}]}):
        with pytest.raises(SourceError) as caught:
            load_modules(to_manifest(given), TextEngine().parse_text)
        assert str(caught.value) == NOT_FOUND.format(name) + why


def test_an_empty_file(folder: Path) -> None:
    Path("plugin").touch()
    for given in ("plugin", Path("plugin"), {"wasm": [{"path": "plugin", "hash": "00"}]}):
        with pytest.raises(SourceError) as caught:
            load_modules(to_manifest(given), TextEngine().parse_text)
        assert str(caught.value) == NOT_FOUND.format("plugin") + "the file is empty"


def test_a_directory(folder: Path) -> None:
    (folder / "plugin").mkdir()
    for given in ("plugin", Path("plugin"), {"wasm": [{"path": "plugin"}]}):
        with pytest.raises(SourceError) as caught:
            load_modules(to_manifest(given), TextEngine().parse_text)
        assert str(caught.value) == NOT_FOUND.format("plugin") + "Is a directory"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file(folder: Path) -> None:
    (folder / "plugin.wasm").write_bytes(WASM)
    (folder / "plugin.wasm").chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        to_manifest("plugin.wasm")


def test_what_is_no_path_is_not_called_a_missing_file() -> None:
    for text in ("{", "[a]b", "(module?", "some\nlines", "x" * 5000):
        with pytest.raises((ManifestError, MalformedModuleError)) as caught:
            load_modules(to_manifest(text), TextEngine().parse_text)
        assert not isinstance(caught.value, SourceError)


# -- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([None], ["main"]),
        (["a"], ["main"]),
        (["extism:host/env"], ["main"]),
        (["a", None], ["a", "main"]),
        (["a", "main"], ["a", "main"]),
        (["main", "a"], ["main", "a"]),
        ([None, "a"], ["main", "a"]),
        (["a", "b"], ["a", "main"]),
        (["a", "b", "c"], ["a", "b", "main"]),
        (["a", "a"], ["a", "main"]),
        (["", "b"], ["", "main"]),
        (["a", "extism:host/env"], ["a", "main"]),
        (["wasi_snapshot_preview1", "extism:host/user", "x"], ["wasi_snapshot_preview1", "extism:host/user", "main"]),
    ],
)
def test_names(names: list[str | None], expected: list[str]) -> None:
    manifest = Manifest(tuple(WasmSource(data=WASM, name=name) for name in names))
    assert [module.name for module in load_modules(manifest, TextEngine().parse_text)] == expected


@pytest.mark.parametrize(
    ("names", "duplicate"),
    [
        ([None, None], "main"),
        (["main", None], "main"),
        (["main", "main"], "main"),
        (["a", "a", "b"], "a"),
        (["a", None, None], "main"),
        (["extism:host/env", "main"], "extism:host/env"),
        (["main", "extism:host/env"], "extism:host/env"),
    ],
)
def test_duplicate_names(names: list[str | None], duplicate: str) -> None:
    manifest = Manifest(tuple(WasmSource(data=WASM, name=name) for name in names))
    with pytest.raises(ManifestError) as caught:
        load_modules(manifest, TextEngine().parse_text)
    expected = f"Unable to compile Extism plugin: Duplicate module name found in Extism manifest: {duplicate}"
    assert str(caught.value) == expected


def test_no_module_takes_the_name_that_rewritten_modules_import_from() -> None:
    """A module of that name could hand its own stack budget to all others."""
    manifest = Manifest((WasmSource(data=WASM), WasmSource(data=WASM, name="extism-engines")))
    with pytest.raises(ManifestError, match=r"^wasm\[1\]\.name: 'extism-engines' is reserved"):
        load_modules(manifest, TextEngine().parse_text)


def test_a_manifest_of_one_s_own_without_modules() -> None:
    with pytest.raises(ManifestError, match="No wasm files specified"):
        load(Manifest(()))


# -- bytes -----------------------------------------------------------------------------------------------------


def test_modules_in_the_order_of_the_manifest(folder: Path) -> None:
    Path("b.wasm").write_bytes(WASM)
    modules = load({"wasm": [{"path": "b.wasm", "name": "b"}, {"data": TEXT.encode(), "name": "a"}, {"data": WASM}]})
    assert list(modules) == ["b", "a", "main"]
    assert modules == {"b": WASM, "a": binary(TEXT), "main": WASM}


def test_hashes() -> None:
    digest = hashlib.sha256(WASM).hexdigest()
    for given in (digest, digest.upper(), None):
        assert load({"wasm": [{"data": WASM, "hash": given}]}) == {"main": WASM}
    for given in ("", "00", digest[:-1], digest + "0", hashlib.sha256(TEXT.encode()).hexdigest(), "ß"):
        with pytest.raises(HashMismatchError) as caught:
            load({"wasm": [{"data": WASM, "name": "a", "hash": given}]})
        text = f"Unable to compile Extism plugin: Hash mismatch, found {digest} but expected {given} (wasm[0].hash)"
        assert str(caught.value) == text


def test_the_hash_is_of_the_text_as_given() -> None:
    text = TEXT.encode()
    assert load({"wasm": [{"data": text, "hash": hashlib.sha256(text).hexdigest()}]}) == {"main": binary(TEXT)}


def test_the_hash_is_checked_before_the_content() -> None:
    with pytest.raises(HashMismatchError):
        load({"wasm": [{"data": b"garbage", "hash": "00"}]})


def test_sizes(folder: Path) -> None:
    Path("m.wasm").write_bytes(WASM)
    for source in ({"data": WASM}, {"path": "m.wasm"}):
        assert load({"wasm": [source]}, len(WASM)) == {"main": WASM}
        with pytest.raises(SourceError, match=r"^wasm\[0\]: the module is larger than the 7 bytes that are allowed"):
            load({"wasm": [source]}, len(WASM) - 1)
    with pytest.raises(SourceError, match="larger than the 7 bytes"):
        extism.CompiledPlugin(WASM, limits=extism.Limits(module_bytes=7))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a file without end")
def test_no_more_is_read_than_is_allowed() -> None:
    with pytest.raises(SourceError, match="larger than the 1000 bytes"):
        load({"wasm": [{"path": "/dev/zero"}]}, 1000)


def test_urls_are_refused() -> None:
    manifest = {"wasm": [{"data": WASM, "name": "a"}, {"url": "https://example.org/plugin.wasm", "hash": "00"}]}
    with pytest.raises(UnsupportedFeatureError, match=r"^wasm\[1\]\.url: this version does not download modules"):
        load(manifest)
    with pytest.raises(UnsupportedFeatureError, match=r"wasm\[1\]\.url"):
        extism.Plugin(manifest)


@pytest.mark.parametrize(
    "url", ["https://example.com/p.wasm", "ftp://h/p", "file:///p.wasm", " http://h:1/p.wasm?q#f\n"]
)
def test_a_url_is_no_missing_file(url: str) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        to_manifest(url)
    assert str(caught.value).startswith(f"{url.strip()}: this version does not download modules; ")
    with pytest.raises(UnsupportedFeatureError, match="does not download"):
        read_manifest(url)


@pytest.mark.parametrize("text", ["C:\\p.wasm", "://p", "//h/p", "a b://c", "https:p", "https://a b"])
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(SourceError, match="entity not found"):
        to_manifest(text)


def test_a_file_that_must_be_a_manifest(folder: Path) -> None:
    Path("m.json").write_text(MANIFEST_JSON)
    assert read_manifest("m.json") == DECODED
    for content in (WASM + b"\xff", b"\xff"):
        Path("m.wasm").write_bytes(content)
        with pytest.raises(ManifestError, match=r"Unknown manifest format \(it is not text in UTF-8\)$"):
            read_manifest("m.wasm")
    with pytest.raises(SourceError, match="entity not found"):
        read_manifest("nowhere")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xff", b"\0asn\1\0\0\0", b"\0\0\0\0"])
def test_garbage_in_a_module(content: bytes) -> None:
    with pytest.raises(MalformedModuleError, match=r"^Unable to compile Extism plugin: wasm\[1\]: the bytes are not a"):
        load({"wasm": [{"data": WASM, "name": "a"}, {"data": content}]})


@pytest.mark.parametrize("text", ["(module", "(module (func (export)))", "(module (nonsense))", ";;", "(; open"])
def test_faults_in_the_text_format(text: str) -> None:
    with pytest.raises(MalformedModuleError, match=r"^Unable to compile Extism plugin: wasm\[0\]: .*\w") as caught:
        load({"wasm": [{"data": text.encode()}]})
    assert caught.value.__cause__ is not None


def test_text_that_is_not_utf_8() -> None:
    with pytest.raises(MalformedModuleError, match=r"wasm\[0\]: .*utf-8"):
        load({"wasm": [{"data": b'(module (export "\xff"))'}]})


def test_an_engine_that_reads_no_text() -> None:
    with pytest.raises(UnsupportedFeatureError, match="cannot read the WebAssembly text format"):
        load_modules(to_manifest(TEXT), BinaryEngine().parse_text)


# -- through the engines ---------------------------------------------------------------------------------------


def test_components_and_damaged_binaries(engine: api.Engine) -> None:
    component = b"\0asm\x0d\0\1\0"
    with pytest.raises(MalformedModuleError, match="component") as caught:
        extism.Plugin(component, engine=engine)
    assert str(caught.value).startswith("Unable to compile Extism plugin: ")
    for damaged in (b"\0asm", b"\0asm\1\0\0", b"\0asm\2\0\0\0", WASM + b"\1", WASM + b"\x0c\xff\xff\xff\xff\x0f"):
        with pytest.raises(MalformedModuleError, match=r"^Unable to compile Extism plugin: "):
            extism.Plugin(damaged, engine=engine)


def test_plugins_from_every_kind_of_source(engine: api.Engine, folder: Path) -> None:
    wasm = binary('(module (func (export "f") (result i32) (i32.const 0)))')
    Path("m.wasm").write_bytes(wasm)
    Path("m.json").write_text('{"wasm": [{"path": "m.wasm"}]}')
    Path("m.toml").write_text('[[wasm]]\npath = "m.wasm"')
    sources = ["m.wasm", "m.json", "m.toml", Path("m.wasm"), wasm, bytearray(wasm), {"wasm": [{"path": "m.wasm"}]},
               Path("m.json").read_text(), Path("m.toml").read_bytes()]  # fmt: skip
    for source in sources:
        with extism.Plugin(source, engine=engine, functions=[]) as plugin:  # type: ignore[arg-type]
            assert plugin.call("f") == b""


def test_timeouts_are_refused(engine: api.Engine) -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"^timeout_ms: this version cannot stop a running plugin"):
        extism.Plugin({"wasm": [{"data": WASM}], "timeout_ms": 10}, engine=engine)


def test_what_only_permits_something_is_harmless(engine: api.Engine) -> None:
    permits = {"allowed_hosts": ["*"], "allowed_paths": {"/nowhere": "/"}}
    manifest = {"wasm": [{"data": WASM}], "timeout_ms": None, **permits}
    extism.Plugin(manifest, engine=engine, wasi=True).close()
