# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds every answer of daggyr against docs/openapi.yaml, and remembers which of the documented ones
have been seen.

Runner.request() hands each answer to check(). An answer whose status, media type, headers or JSON body
is not as documented fails the test that got it. Which (operation, status) pairs came up is appended to
a file in /run, that is: one for each bed, shared by all pytest processes that run in it. The very last
test, test_zz_openapi.py, reads it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

import jsonschema
import requests
import yaml

FOLDER = Path(__file__).parents[2] / "docs"
SEEN_FILE = Path("/run/daggyr-test/openapi-seen")

ANY_REQUEST = {400, 401, 403, 404, 405, 421}
"""What a request for which there is no operation may be answered with."""

ANY_MEMBER = {502, 503}
"""What a member of a queue may answer any request with that it would hand on: the document says so in general."""

LARGE = 64 * 1024
"""A longer body is validated only the first time in each process: it takes a second for a megabyte."""

METHODS = ("get", "put", "post", "delete")


def _load(name: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: dict[str, Any] = yaml.load((FOLDER / name).read_text(), loader)
    return document


def target_of(document: Any, pointer: str) -> Any:
    """What a "#/…" reference refers to."""
    assert pointer.startswith("#/"), pointer
    for part in pointer[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def _resolved(node: Any, document: Any) -> Any:
    """A copy with all references replaced by what they refer to. What stands beside a reference counts
    as well, as JSON Schema has it since 2019-09."""
    if isinstance(node, list):
        return [_resolved(item, document) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _resolved(value, document) for key, value in node.items() if key != "$ref"}
    if "$ref" not in node:
        return rest
    file, _, pointer = node["$ref"].partition("#")
    if file:  # the queue's document refers to the runner's
        assert file == "openapi.yaml", file
        document = DESCRIPTION
    return _resolved(target_of(document, f"#{pointer}"), document) | rest


@dataclass
class Response:
    """One documented answer; for each media type what its body must be, None where anything will do."""

    headers: list[str]
    validators: dict[str, jsonschema.Draft202012Validator | None]


@dataclass
class Operation:
    """One documented method of one path."""

    name: str
    method: str
    path: str
    pattern: re.Pattern[str]
    has_body: bool
    needs_token: bool
    responses: dict[int, Response] = field(default_factory=dict)

    @property
    def n_literals(self) -> list[bool]:
        return [not part.startswith("{") for part in self.path.split("/")]


def _response(documented: dict[str, Any]) -> Response:
    response = Response([name for name, it in documented.get("headers", {}).items() if it["required"]], {})
    for media_type, content in documented.get("content", {}).items():
        is_json = media_type.endswith("json")
        response.validators[media_type] = (
            jsonschema.Draft202012Validator(content["schema"]) if is_json else None
        )
    return response


def _pattern(path: str, parameters: list[dict[str, Any]]) -> re.Pattern[str]:
    """Numbers only match numbers; of everything else the server says itself what it thinks of it."""
    expression = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    for parameter in parameters:
        if parameter["in"] == "path":
            numeric = parameter["schema"].get("pattern") == "^[0-9]+$"
            expression = expression.replace(f"{{{parameter['name']}}}", "[0-9]+" if numeric else "[^/]+")
    return re.compile(expression)


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, item in _resolved(document["paths"], document).items():
        for method in METHODS:
            if method not in item:
                continue
            documented = item[method]
            operation = Operation(
                name=documented["operationId"],
                method=method.upper(),
                path=path,
                pattern=_pattern(path, item.get("parameters", []) + documented.get("parameters", [])),
                has_body="requestBody" in documented,
                needs_token=documented.get("security", document["security"]) != [],
            )
            for status, response in documented["responses"].items():
                operation.responses[int(status)] = _response(response)
            yield operation


DESCRIPTION = _load("openapi.yaml")
QUEUE_DESCRIPTION = _load("openapi-queue.yaml")


def resolved(node: Any) -> Any:
    """A part of the document without references."""
    return _resolved(node, DESCRIPTION)


OPERATIONS = sorted(_operations(DESCRIPTION), key=lambda operation: operation.n_literals, reverse=True)
QUEUE_OPERATIONS = sorted(
    _operations(QUEUE_DESCRIPTION), key=lambda operation: operation.n_literals, reverse=True
)
for _operation in QUEUE_OPERATIONS:  # what was seen of one program is not what was seen of the other
    _operation.name = f"queue:{_operation.name}"
_seen_here: set[tuple[str, int]] = set()


def find_operation(method: str, path: str, operations: list[Operation] = OPERATIONS) -> Operation | None:
    """The operation that serves a request; the path may be percent-encoded and have a query. Literal
    segments win over parameters."""
    path = path.partition("?")[0]
    at_path = [operation for operation in operations if operation.pattern.fullmatch(path)]
    best = [operation for operation in at_path if operation.path == at_path[0].path]
    method = "GET" if method == "HEAD" else method
    return next((operation for operation in best if operation.method == method), None)


def check(
    answer: requests.Response, streamed: bool = False, operations: list[Operation] = OPERATIONS
) -> None:
    """Fails the test unless the answer is documented. The body of a streamed one is left alone."""
    request = answer.request
    assert request.method and request.path_url
    label = f"{request.method} {request.path_url} → {answer.status_code}"
    operation = find_operation(request.method, request.path_url, operations)
    if not operation:
        assert answer.status_code in ANY_REQUEST, f"{label}: no such operation is documented"
        return
    response = operation.responses.get(answer.status_code)
    if not response and operations is QUEUE_OPERATIONS and answer.status_code in ANY_MEMBER:
        assert answer.status_code == 502 or "Retry-After" in answer.headers, label
        assert answer.headers["Content-Type"].startswith("application/problem+json"), label
        return
    assert response, f"{label}: not a documented status of {operation.name}"
    for header in response.headers:
        assert header in answer.headers, f"{label}: without the documented header {header}"
    if not streamed and request.method != "HEAD":
        _check_body(answer, response, label, first=(operation.name, answer.status_code) not in _seen_here)
    _remember(operation.name, answer.status_code)


def _check_body(answer: requests.Response, response: Response, label: str, first: bool) -> None:
    if not response.validators:
        assert answer.content == b"", f"{label}: a body where none is documented"
        return
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    assert media_type in response.validators, f"{label}: {media_type!r} is not documented"
    validator = response.validators[media_type]
    if not validator or (len(answer.content) > LARGE and not first):
        return
    error = jsonschema.exceptions.best_match(validator.iter_errors(json.loads(answer.content)))
    assert not error, f"{label}: {error.json_path}: {error.message}"


def _remember(name: str, status: int) -> None:
    if (name, status) in _seen_here:
        return
    _seen_here.add((name, status))
    SEEN_FILE.parent.mkdir(mode=0o755, exist_ok=True)
    with SEEN_FILE.open("a") as file:  # one short write, which O_APPEND makes atomic
        file.write(f"{os.getpid()} {name} {status}\n")


def seen() -> dict[tuple[str, int], set[int]]:
    """Which answers have been seen in this bed, and by which processes."""
    found: dict[tuple[str, int], set[int]] = {}
    for line in SEEN_FILE.read_text().splitlines() if SEEN_FILE.exists() else []:
        pid, name, status = line.split()
        found.setdefault((name, int(status)), set()).add(int(pid))
    return found


def documented() -> set[tuple[str, int]]:
    both = OPERATIONS + QUEUE_OPERATIONS
    return {(operation.name, status) for operation in both for status in operation.responses}
