"""Decoding of manifests: what is taken, and where each fault is said to be."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from extism_engines.errors import ManifestError
from extism_engines.manifest import COMPILE_PREFIX, Manifest, MemoryOptions, WasmSource, parse

WASM = {"data": b"\0asm"}


def fault_of(fields: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_mapping(fields)
    return str(caught.value)


def fault_in_text(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_text(text)
    return str(caught.value)


# -- what is taken ---------------------------------------------------------------------------------------------

EVERYTHING_JSON = """ {
  "wasm": [{"path": "a.wasm", "name": "a", "hash": "00"}, {"data": "AGFzbQ==", "name": null, "hash": null},
           {"url": "https://example.org/b.wasm", "headers": {"x": "y"}, "method": "get"}],
  "memory": {"max_pages": 4, "max_http_response_bytes": 5, "max_var_bytes": 6},
  "config": {"key": "value", "": ""},
  "allowed_hosts": ["*.example.org"],
  "allowed_paths": {"ro:/data": "/"},
  "timeout_ms": 1000
}
"""

EVERYTHING_TOML = """
timeout_ms = 1000
allowed_hosts = ["*.example.org"]
[[wasm]]
path = "a.wasm"
name = "a"
hash = "00"
[[wasm]]
data = "AGFzbQ=="
[[wasm]]
url = "https://example.org/b.wasm"
method = "get"
headers = {x = "y"}
[memory]
max_pages = 4
max_http_response_bytes = 5
max_var_bytes = 6
[config]
key = "value"
"" = ""
[allowed_paths]
"ro:/data" = "/"
"""


@pytest.mark.parametrize("text", [EVERYTHING_JSON, EVERYTHING_TOML], ids=["json", "toml"])
def test_every_field(text: str) -> None:
    assert Manifest.from_text(text) == Manifest(
        wasm=(
            WasmSource(path="a.wasm", name="a", hash="00"),
            WasmSource(data=b"\0asm"),
            WasmSource(url="https://example.org/b.wasm", headers={"x": "y"}, method="get"),
        ),
        memory=MemoryOptions(4, 5, 6),
        config={"key": "value", "": ""},
        allowed_hosts=("*.example.org",),
        allowed_paths={"ro:/data": "/"},
        timeout_ms=1000,
    )


def test_defaults() -> None:
    manifest = Manifest.from_mapping({"wasm": [WASM]})
    assert manifest == Manifest((WasmSource(data=b"\0asm"),), MemoryOptions(None, None, None), {}, (), {}, None)


def test_null_where_it_stands_for_nothing() -> None:
    manifest = Manifest.from_text(
        '{"wasm": [{"path": "p", "name": null, "hash": null}], "allowed_hosts": null, "allowed_paths": null,'
        ' "timeout_ms": null, "memory": {"max_pages": null, "max_http_response_bytes": null, "max_var_bytes": null}}'
    )
    assert manifest == Manifest((WasmSource(path="p"),))


@pytest.mark.parametrize("data", [b"xyz", bytearray(b"xyz"), memoryview(b"xyz"), memoryview(b"xaybzc")[::2]])
def test_data_as_bytes(data: Any) -> None:
    assert Manifest.from_mapping({"wasm": [{"data": data}]}).wasm[0].data == b"xyz"


def test_any_mapping_and_sequence() -> None:
    fields = MappingProxyType({"wasm": (MappingProxyType({"path": "p"}),), "config": MappingProxyType({"a": "b"})})
    assert Manifest.from_mapping(fields) == Manifest((WasmSource(path="p"),), config={"a": "b"})


def test_a_manifest_does_not_share_what_it_was_made_of() -> None:
    config = {"a": "b"}
    manifest = Manifest.from_mapping({"wasm": [WASM], "config": config})
    config["a"] = "c"
    assert manifest.config == {"a": "b"}


@pytest.mark.parametrize(
    ("field", "bits"), [("max_pages", 32), ("max_http_response_bytes", 64), ("max_var_bytes", 64), ("timeout_ms", 64)]
)
def test_ranges_of_numbers(field: str, bits: int) -> None:
    def fields(number: Any) -> dict[str, Any]:
        return {"wasm": [WASM], **({field: number} if field == "timeout_ms" else {"memory": {field: number}})}

    path = field if field == "timeout_ms" else f"memory.{field}"
    number: Any
    for number in (0, 1, (1 << bits) - 1):
        manifest = Manifest.from_mapping(fields(number))
        assert getattr(manifest if field == "timeout_ms" else manifest.memory, field) == number
    for number in (-1, 1 << bits, 10**5000, -(10**5000)):
        assert fault_of(fields(number)) == f"{path}: the number is not in the range 0 to {(1 << bits) - 1}"
    for number, kind in [
        (1.0, "a fractional number"), ("1", "a string"), (True, "a boolean"), ([1], "an array"), ({}, "an object"),
    ]:  # fmt: skip
        assert fault_of(fields(number)) == f"{path}: expected a whole number, got {kind}"


# -- base64 ----------------------------------------------------------------------------------------------------


def test_base64_round_trip() -> None:
    for size in range(20):
        data = bytes(range(240, 240 + 16))[:size] + bytes(max(0, size - 16))
        text = base64.b64encode(data).decode()
        assert Manifest.from_mapping({"wasm": [{"data": text}]}).wasm[0].data == data


@pytest.mark.parametrize(
    "text",
    ["AAA", "AA", "A", "AA=", "AAAA=", "AA===", "A===", "====", "=", "AA==AA==", "AA=A", "AB==", "AAB=",  # padding
     "_-__", "AA AA", "AAAA\n", " AAAA", "AAAA\0", "ÄAAA", "AAAA!", "\ud800AAA"],
)  # fmt: skip
def test_base64_is_strict(text: str) -> None:
    assert fault_of({"wasm": [WASM, {"data": text}]}).startswith("wasm[1].data: ")


@pytest.mark.parametrize("data", [{"ptr": 1, "len": 2}, [1, 2], 5, None])
def test_data_is_never_an_address(data: Any) -> None:
    assert fault_of({"wasm": [{"data": data}]}).startswith("wasm[0].data: expected a string, got ")


# -- faults and their places -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (None, "manifest: expected an object, got null"),
        ([], "manifest: expected an object, got an array"),
        ({"wasm": {}}, "wasm: expected an array, got an object"),
        ({"wasm": None}, "wasm: expected an array, got null"),
        ({"wasm": "x"}, "wasm: expected an array, got a string"),
        ({"wasm": [WASM, 3]}, "wasm[1]: expected an object, got an integer"),
        ({"wasm": [{}]}, "wasm[0]: expected exactly one of path, data, url, got none of them"),
        ({"wasm": [{"name": "a"}]}, "wasm[0]: expected exactly one of path, data, url, got none of them"),
        ({"wasm": [{"path": "p", "data": ""}]}, "wasm[0]: expected exactly one of path, data, url, got path and data"),
        ({"wasm": [{"path": "p", "url": "u"}]}, "wasm[0]: expected exactly one of path, data, url, got path and url"),
        ({"wasm": [{"path": None}]}, "wasm[0].path: expected a string, got null"),
        ({"wasm": [{"path": b"p"}]}, "wasm[0].path: expected a string, got bytes"),
        ({"wasm": [{"path": "p", "name": 1}]}, "wasm[0].name: expected a string, got an integer"),
        ({"wasm": [{"path": "p", "hash": b""}]}, "wasm[0].hash: expected a string, got bytes"),
        ({"wasm": [{"path": "p", "headers": {}}]}, "wasm[0].headers: only a module with a url has this field"),
        ({"wasm": [{"data": "", "method": None}]}, "wasm[0].method: only a module with a url has this field"),
        ({"wasm": [{"url": "u", "headers": None}]}, "wasm[0].headers: expected an object, got null"),
        ({"wasm": [{"url": "u", "headers": {"a": 1}}]}, "wasm[0].headers.a: expected a string, got an integer"),
        ({"wasm": [{"url": "u", "method": 1}]}, "wasm[0].method: expected a string, got an integer"),
        ({"wasm": [{"req": {"url": "u"}}]}, "wasm[0].req: unknown field; known are path, data, url, headers, "
         "method, name, hash"),
        ({"wasm": [WASM], "memory": None}, "memory: expected an object, got null"),
        ({"wasm": [WASM], "memory": {"maxPages": 1}}, "memory.maxPages: unknown field; known are max_pages, "
         "max_http_response_bytes, max_var_bytes"),
        ({"wasm": [WASM], "config": None}, "config: expected an object, got null"),
        ({"wasm": [WASM], "config": {"a": 1}}, "config.a: expected a string, got an integer"),
        ({"wasm": [WASM], "config": {"a": None}}, "config.a: expected a string, got null"),
        ({"wasm": [WASM], "config": {"a": {"b": "c"}}}, "config.a: expected a string, got an object"),
        ({"wasm": [WASM], "config": {"a": float("nan")}}, "config.a: expected a string, got the number nan"),
        ({"wasm": [WASM], "config": {1: "a"}}, "config: name of a field: expected a string, got an integer"),
        ({"wasm": [WASM], "config": {"a": "\ud800"}}, "config.a: half of a surrogate pair is not a character"),
        ({"wasm": [WASM], 5: 5}, "manifest: name of a field: expected a string, got an integer"),
        ({"wasm": [WASM], "allowed_hosts": "*"}, "allowed_hosts: expected an array, got a string"),
        ({"wasm": [WASM], "allowed_hosts": ["a", None]}, "allowed_hosts[1]: expected a string, got null"),
        ({"wasm": [WASM], "allowed_paths": ["a"]}, "allowed_paths: expected an object, got an array"),
        ({"wasm": [WASM], "allowed_paths": {"/a": 1}}, "allowed_paths./a: expected a string, got an integer"),
        ({"wasm": [WASM], "allowedHosts": []}, "allowedHosts: unknown field; known are wasm, memory, config, "
         "allowed_hosts, allowed_paths, timeout_ms"),
    ],
)  # fmt: skip
def test_faults_name_their_place(fields: Any, expected: str) -> None:
    assert fault_of(fields) == expected


@pytest.mark.parametrize("fields", [{}, {"wasm": []}, {"config": {"a": "b"}}])
def test_no_modules(fields: Mapping[str, Any]) -> None:
    assert fault_of(fields) == "Unable to compile Extism plugin: No wasm files specified in Extism manifest"


@pytest.mark.parametrize("given", [{}, {"path": "p", "data": b""}, {"path": "p", "url": "u"}])
def test_a_source_of_one_s_own_has_one_origin(given: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="expected exactly one of path, data, url"):
        WasmSource(**given)


def test_data_is_not_in_the_repr() -> None:
    assert repr(WasmSource(data=bytes(5000))).count("<5000 bytes>") == 1
    assert "<0 bytes>" in repr(WasmSource(data=b""))
    assert "data=None" in repr(WasmSource(path="p"))


# -- texts -----------------------------------------------------------------------------------------------------

NOT_A_MANIFEST = COMPILE_PREFIX + "Unknown manifest format ("


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"wasm": [{"path": "a", "path": "b"}]}', "wasm[0].path: the field is there twice"),
        ('{"wasm": [], "wasm": []}', "wasm: the field is there twice"),
        ('{"wasm": [{"path": "a"}], "config": {"a": "1", "b": "2", "a": "1"}}', "config.a: the field is there twice"),
        ('{"wasm": [{"path": "a"}], "memory": {"max_pages": NaN}}',
         "memory.max_pages: expected a whole number, got the number nan"),
        ('{"wasm": [{"path": "a"}], "timeout_ms": -Infinity}',
         "timeout_ms: expected a whole number, got the number -inf"),
        ('{"wasm": [{"path": "a"}], "timeout_ms": 1e999}', "timeout_ms: expected a whole number, got the number inf"),
        ('{"wasm": [{"path": "a"}], "timeout_ms": 1e3}',
         "timeout_ms: expected a whole number, got a fractional number"),
        ('{"wasm": [{"path": "a"}], "timeout_ms": 18446744073709551616}',
         "timeout_ms: the number is not in the range 0 to 18446744073709551615"),
        ('{"wasm": [{"path": "a"}], "config": {"a": "\\ud800"}}',
         "config.a: half of a surrogate pair is not a character"),
        ('timeout_ms = 1.0\nwasm = [{path = "a"}]', "timeout_ms: expected a whole number, got a fractional number"),
        ('timeout_ms = nan\nwasm = [{path = "a"}]', "timeout_ms: expected a whole number, got the number nan"),
        ('timeout_ms = 2020-01-01\nwasm = [{path = "a"}]', "timeout_ms: expected a whole number, got date"),
        ('extra = 1\nwasm = [{path = "a"}]', "extra: unknown field; known are wasm, memory, config, allowed_hosts, "
         "allowed_paths, timeout_ms"),
    ],
)  # fmt: skip
def test_faults_in_text_name_their_place(text: str, expected: str) -> None:
    assert fault_in_text(text) == expected


def test_numbers_of_any_length_are_faults() -> None:
    digits = "9" * 10_000
    assert fault_in_text('{"wasm": [{"path": "a"}], "timeout_ms": ' + digits + "}")
    assert fault_in_text(f'wasm = [{{path = "a"}}]\ntimeout_ms = {digits}')
    expected = "timeout_ms: the number is not in the range 0 to 18446744073709551615"
    assert fault_in_text(f'wasm = [{{path = "a"}}]\ntimeout_ms = 0x{"f" * 10_000}') == expected


@pytest.mark.parametrize("text", ["[" * 100_000, '{"wasm":' * 100_000, "a=" + "[" * 100_000, "a=" + "{b=" * 100_000])
def test_depth_is_a_fault(text: str) -> None:
    assert fault_in_text(text).startswith(NOT_A_MANIFEST)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"wasm": [{"path": "a"}]} x', "not valid JSON: Extra data"),
        ('{"wasm": [{"path": "a"}]}{}', "not valid JSON: Extra data"),
        ('{"wasm": [{"path": "a"},]}', "not valid JSON: "),
        ("{'wasm': []}", "not valid JSON: "),
        ("{", "not valid JSON: "),
        ('\ufeff{"wasm": [{"path": "a"}]}', "not valid JSON: "),
        ('\ufeff[[wasm]]\npath = "a"', "not valid TOML: "),
        ("\ufeffwasm = []", "not valid TOML: "),
        ('[[wasm]]\npath = "a"\npath = "b"', "not valid"),
        ("wasm = [", "not valid TOML: "),
        ("something else", "not valid TOML: "),
        ("[]", "an object is expected"),
        ("null", "an object is expected"),
        ("NaN", "an object is expected"),
        ('"text"', "an object is expected"),
        ("17", "an object is expected"),
    ],
)
def test_neither_json_nor_toml(text: str, why: str) -> None:
    found = fault_in_text(text)
    assert found.startswith(NOT_A_MANIFEST)
    assert why in found


@pytest.mark.parametrize("text", ["", "\n", " \t ", "# nothing", "{}", "  {}\n", '{"wasm": []}', "wasm = []"])
def test_text_without_modules(text: str) -> None:
    assert fault_in_text(text) == "Unable to compile Extism plugin: No wasm files specified in Extism manifest"


def test_white_space_around_json() -> None:
    assert Manifest.from_text(' \r\n\t{"wasm": [{"path": "a"}]}\n ') == Manifest((WasmSource(path="a"),))


def test_parse_looks_at_no_field() -> None:
    assert parse("a = 1") == parse('{"a": 1}') == {"a": 1}


# -- garbage ---------------------------------------------------------------------------------------------------

NAMES = ["wasm", "path", "data", "url", "headers", "method", "name", "hash", "memory", "max_pages", "max_var_bytes",
         "config", "allowed_hosts", "allowed_paths", "timeout_ms", "req", "", "x", "\ud800"]  # fmt: skip


def _random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(10 if depth else 7)
    if kind < 7:
        text = "text\udfff"[: rng.randrange(6)]
        simple: list[Any] = [None, True, rng.randrange(-5, 5), 10 ** rng.randrange(40), rng.random(), "AAAA", text]
        return simple[kind]
    if kind == 7:
        return [_random_value(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {rng.choice(NAMES): _random_value(rng, depth - 1) for _ in range(rng.randrange(4))}


def _is_taken(decode: Callable[[Any], Manifest], given: Any) -> bool:
    """Whether it is a manifest. Fails where it is neither that nor a fault."""
    try:
        return isinstance(decode(given), Manifest)
    except ManifestError as error:
        assert str(error)
        return False


def test_random_fields_are_manifests_or_faults() -> None:
    rng = random.Random(1)
    taken = 0
    for _ in range(5000):
        fields = {rng.choice(NAMES): _random_value(rng, 4) for _ in range(rng.randrange(4))}
        if rng.random() < 0.5:
            fields["wasm"] = [{rng.choice(["path", "data", "url"]): "AAAA"}]
        taken += _is_taken(Manifest.from_mapping, fields) + _is_taken(Manifest.from_text, json.dumps(fields))
    assert taken > 100


@pytest.mark.parametrize("whole", [EVERYTHING_JSON, EVERYTHING_TOML], ids=["json", "toml"])
def test_damaged_text_is_a_manifest_or_a_fault(whole: str) -> None:
    rng = random.Random(2)
    faults = 0
    for _ in range(1500):
        text = list(whole)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(string.printable + "\0\ufeff\ud800ä")
        faults += not _is_taken(Manifest.from_text, "".join(text))
    assert faults > 500


def test_random_text_is_a_fault() -> None:
    rng = random.Random(3)
    for _ in range(1500):
        text = "".join(rng.choice('{}[]",:=.#\n 01ewasm\\\ud800') for _ in range(rng.randrange(30)))
        with pytest.raises(ManifestError):
            Manifest.from_text(text)
