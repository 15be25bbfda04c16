# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the documents say of bodies and queries is what the daemons take: they are generated from the schemas, at the
edges of every field, and each is refused with 400 exactly when the document does not allow it.

The daemons drain meanwhile: what is well-formed then gets 503, and nothing has to run."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
import requests

import openapi
from bedlib import ROOMY, Runner

STRINGS = ["", "a", "A", "0", "é", "a b", "a=b", "a/b", "x" * 32, "x" * 33, "x" * 63, "x" * 64, "x" * 128, "x" * 129]
STRINGS += ["é" * 200, "é" * 255, "é" * 256, "a\n", "-a", ".a", "_a", "a$", "a$b", "%", "/", "/a", "//a", "/a/../b"]
STRINGS += ["/" + "é" * 4094, "/" + "x" * 4095, "0022", "1022", "22", "777", "0777", "00777", "8", "00", "0000K"]
STRINGS += ["1K", "1k", "1KB", "1 K", "+1", "1.5", "infinity", "9" * 19, "9" * 20, "9" * 7 + "T", "9" * 8 + "T"]
STRINGS += ["9" * 16 + "K", "9" * 17 + "K", "0-3,5", "3-0", "8191", "8192", "0,", ", 1 2", "-", "1-", "10.0.0.0/8"]
STRINGS += ["10.0.0.0/33", "::1", "::/129", "any", "localhost", "multicast", "link-local", "queue", "reject"]
STRINGS += ["/dev/vda", "/dev/", "/dev/a/b", "/dev/disk/by-id/x", "/dev/disk/../x", "/dev/disk/x/", "/dev/a b"]
STRINGS += ["gpu", "Gpu", "memory_mb", "cores", "g" * 32, "daggyd.x", "daggyd"]
NUMBERS: list[Any] = [0, 1, -1, 0.5, 1.0, 1.5, 16.0, -0.0, 1e3, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 1e300]
OTHERS: list[Any] = [None, True, False, [], {}, [1], {"a": "b"}, {"a": 1}, ["a"]]
FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("address-prefix")
def is_address_prefix(value: object) -> bool:
    try:
        return value in ("any", "localhost", "link-local", "multicast") or bool(ipaddress.ip_network(value, False))  # type: ignore[arg-type]
    except ValueError:
        return False


@FORMATS.checks("index-set")
def is_index_set(value: object) -> bool:
    ranges = [part.split("-") for part in str(value).replace(",", " ").split(" ") if part]
    ends = [part for ends in ranges for part in ends]
    if not ranges or any(len(it) > 2 for it in ranges) or not all(it.isascii() and it.isdigit() for it in ends):
        return False
    return all(int(it[0]) <= int(it[-1]) <= 8191 for it in ranges)


def bounds(schema: dict[str, Any]) -> Iterator[Any]:
    for name, step in (("minimum", -1), ("maximum", 1)):
        if name in schema:
            yield from (schema[name], schema[name] + step, float(schema[name]))


def lists(schema: dict[str, Any]) -> Iterator[Any]:
    for size in {schema.get("minItems", 0), schema.get("maxItems", 3), schema.get("maxItems", 3) + 1}:
        yield ["::1"] * size
    for item in edges(schema.get("items", {})):
        yield [item]


def objects(schema: dict[str, Any]) -> Iterator[Any]:
    most = schema.get("maxProperties")
    members = schema.get("additionalProperties")
    for count in (most, most + 1) if most else ():
        yield {f"/dev/k{i}": "1" for i in range(count)}
        yield {f"k{i}": "1" for i in range(count)}
    for name, member in schema.get("properties", {}).items():
        yield from ({name: value} for value in edges(member))
    for name in STRINGS:
        yield {name: "1"}
        yield {name: 1}
    for value in edges(members if isinstance(members, dict) else {}):
        yield {"a": value}
        yield {"/dev/vda": value}


def edges(schema: dict[str, Any]) -> Iterator[Any]:
    """Values on both sides of every limit that the schema has, and of every other type."""
    for part in schema.get("oneOf", []) + schema.get("allOf", []) + schema.get("anyOf", []):
        yield from edges(part)
    yield from schema.get("enum", [])
    yield from bounds(schema)
    if schema.get("type") == "array":
        yield from lists(schema)
    if schema.get("type") == "object":
        yield from objects(schema)
    yield from STRINGS + NUMBERS + OTHERS


def exact(node: Any) -> Any:
    """The schema with patterns as ECMAScript reads them: to Python "$" also stands before a last line's end."""
    if isinstance(node, list):
        return [exact(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for key, value in node.items():
        if key == "pattern":
            result[key] = value.removesuffix("$") + r"\Z" if value.endswith("$") else value
        elif key == "patternProperties":
            result[key] = {name.removesuffix("$") + r"\Z": exact(member) for name, member in value.items()}
        else:
            result[key] = exact(value)
    return result


def batches(bodies: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many at once as one request takes."""
    batch: list[dict[str, Any]] = []
    size = 0
    for body in bodies:
        length = len(json.dumps(body)) + 2
        if len(batch) == 1000 or size + length > 1_000_000:
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    yield batch


@pytest.mark.parametrize("program", ["runner", "queue"])
def test_a_task_is_malformed_exactly_when_the_document_says_so(
    program: str, start_runner: Callable[..., Runner], start_queue: Callable[..., Runner]
) -> None:
    """Lost: clients that are generated from the document, or that check by it what they send."""
    daemon = start_runner(ROOMY) if program == "runner" else start_queue({})
    document = openapi.DESCRIPTION if program == "runner" else openapi.QUEUE_DESCRIPTION
    schema = openapi._resolved(document["components"]["schemas"]["TaskSpec"], document)
    validator = jsonschema.Draft202012Validator(exact(schema), format_checker=FORMATS)
    daemon.put("/api/v1/drain", json={"drain": True})

    unique = {}
    for name, field in [*schema["properties"].items(), ("unknown", {})]:
        for value in edges(field):
            body = {"command": ["true"]} | {name: value}
            unique[json.dumps(body)] = body
    bodies = list(unique.values())
    assert len(bodies) > 2000
    wrong = []
    for batch in batches(bodies):
        answer = daemon.http.post(daemon.url + "/api/v1/tasks", json=batch, timeout=60)
        assert answer.status_code == 200, answer.text[:300]
        for body, outcome in zip(batch, answer.json(), strict=True):
            if (outcome["status"] != 400) != validator.is_valid(body):
                wrong.append(f"{json.dumps(body)[:150]}: {outcome['status']} {outcome.get('problem')}")
    assert not wrong, "\n".join(wrong[:100])


# ── all other requests ──

SCALARS = ["", "0", "-0", "1", "-1", "+1", "01", "1.0", "1.5", ".5", "1.", "1e3", "1E-3", "1e999", "0x1", "1_0"]
SCALARS += [" 1", "1 ", "1\n", "nan", "inf", "-inf", "infinity", "true", "false", "True", "TRUE", "yes", "null"]
SCALARS += ["none", "full", "tail", "stdout", "stderr", "queued", "completed", "lost", "é", "a=b", "=", "a=", "=b", "a"]
SCALARS += [str(n) for n in (300, 301, 300.5, 1000, 1001, 10**6, 10**6 + 1, 10**12)]
SCALARS += [str(n) for n in (10**12 + 1, 2**53, 2**63, 2**64 - 1)]
SCALARS += ["daggyd.queue=x", "a=b=c", str(2**64), "9" * 40, "x" * 300, "\x7f", "٣"]
INTEGER = re.compile(r"[0-9]+\Z", re.ASCII)
NUMBER = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z", re.ASCII)


def value_of(text: str, schema: dict[str, Any]) -> Any:
    """What a parameter's text means by its schema; the text itself where it means nothing, which fits no other type."""
    if schema.get("type") == "integer" and INTEGER.match(text):
        return int(text)
    if schema.get("type") == "number" and NUMBER.match(text):
        return float(text)
    if schema.get("type") == "boolean" and text in ("true", "false"):
        return text == "true"
    return [text] if schema.get("type") == "array" else text


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, list[dict[str, Any]], dict[str, Any] | None]]:
    """(method, path, parameters, schema of the body) of each operation that ends by itself."""
    for path, item in openapi._resolved(document["paths"], document).items():
        for method in openapi.METHODS:
            if method not in item or path == "/api/v1/events":
                continue
            body = item[method].get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            yield method.upper(), path, item.get("parameters", []) + item[method].get("parameters", []), body


def concrete(path: str) -> str:
    """Of a task that has ended, so that nothing is held back, and a lease and a run that are not there."""
    names = {"task_id": "t", "run_id": "7", "lease_id": "0" * 32, "worker_id": "w", "file": "main.js"}
    return re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)


@pytest.fixture(params=["runner", "queue"])
def draining(
    request: pytest.FixtureRequest, start_runner: Callable[..., Runner], start_queue: Callable[..., Runner]
) -> tuple[Runner, dict[str, Any]]:
    """A daemon, and its document."""
    is_runner = request.param == "runner"
    worker = {"id": "w", "url": "http://127.0.0.1:9"}
    daemon = start_runner(ROOMY) if is_runner else start_queue({}, {"workers": [worker]})
    end_task(daemon)
    daemon.put("/api/v1/drain", json={"drain": True})
    return daemon, openapi.DESCRIPTION if is_runner else openapi.QUEUE_DESCRIPTION


def end_task(daemon: Runner) -> None:
    """Makes "t" be there, and over."""
    if daemon.get("/api/v1/task/t").status_code == 404:
        daemon.put("/api/v1/drain", json={"drain": False})
        daemon.submit(["true"], "t")
        daemon.delete("/api/v1/task/t", params={"keep": "true"})
        daemon.wait("t")
        daemon.put("/api/v1/drain", json={"drain": True})


def ask(daemon: Runner, method: str, path: str, **options: Any) -> requests.Response:
    return daemon.http.request(method, daemon.url + path, timeout=60, **options)


def test_a_query_is_malformed_exactly_when_the_document_says_so(draining: tuple[Runner, dict[str, Any]]) -> None:
    """Lost: clients that check their parameters by the document; or a parameter that is ignored without a word."""
    daemon, document = draining
    wrong = []
    n_parameters = 0
    for method, path, parameters, body in operations(document):
        if "{run_id}" in path:
            continue  # the DaggyR endpoints ignore queries, as Daggy does
        queries = [parameter for parameter in parameters if parameter["in"] == "query"]
        cases = [(quote(name) + "=1", False) for name in ("unknown", "Wait", "é") if "impact" not in path]
        for parameter in queries:
            n_parameters += 1
            schema, name = exact(parameter["schema"]), parameter["name"]
            validator = jsonschema.Draft202012Validator(schema)
            for text in SCALARS:
                is_valid = not text or validator.is_valid(value_of(text, schema))  # without a value it is absent
                cases.append((f"{name}={quote(text, safe='')}", is_valid))
            good = next(text for text in SCALARS if text and validator.is_valid(value_of(text, schema)))
            for n in (2, schema.get("maxItems", 3), schema.get("maxItems", 3) + 1):
                many = schema.get("type") == "array" and validator.is_valid([good] * n)
                cases.append(("&".join([f"{name}={quote(good)}"] * n), many))
        for query, is_valid in cases:
            end_task(daemon)
            answer = ask(daemon, method, f"{concrete(path)}?{query}", json=None if body is None else {})
            if is_valid == (answer.status_code == 400) and not (body and is_valid):
                wrong.append(f"{method} {path}?{query}: {answer.status_code} {answer.text[:150]}")
    assert n_parameters > 8
    assert not wrong, "\n".join(wrong[:100])


def test_a_body_is_malformed_exactly_when_the_document_says_so(draining: tuple[Runner, dict[str, Any]]) -> None:
    """Lost: the same for everything that is no task: leases, draining, workers, what a DaggyR server sends."""
    daemon, document = draining
    wrong = []
    seen = set()
    for method, path, _, schema in operations(document):
        if not schema or "/task" in path and "{run_id}" not in path:
            continue
        seen.add(path)
        malformed = 409 if "{run_id}" in path else 400
        validator = jsonschema.Draft202012Validator(exact(schema), format_checker=FORMATS)
        whole = next(value for value in examples(schema) if validator.is_valid(value))
        bodies: list[Any] = [*NUMBERS, *OTHERS, "a", whole]
        bodies += [{key: value for key, value in whole.items() if key != left_out} for left_out in whole]
        for name, field in [*schema["properties"].items(), ("unknown", {})]:
            bodies += [whole | {name: value} for value in edges(field)]
        for body in bodies:
            answer = ask(daemon, method, concrete(path), json=body)
            if (answer.status_code != malformed) != validator.is_valid(body):
                wrong.append(f"{method} {path} {json.dumps(body)[:150]}: {answer.status_code} {answer.text[:150]}")
        daemon.put("/api/v1/drain", json={"drain": True})
    assert len(seen) >= 2
    assert not wrong, "\n".join(wrong[:100])


def examples(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The document's own, or one in which all that it must have is true."""
    if "example" in schema:
        yield schema["example"]
    yield dict.fromkeys(schema.get("required", []), True)
