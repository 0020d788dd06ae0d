"""The OpenAPI 3.1 document: FastAPI's routes, with the bodies that its handlers read and write themselves."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import WithDefaultSchema
from starlette.responses import Response

from plumbline_models.core.errors import CapacityError, PlumblineError, error_classes
from plumbline_serve.edge import schemas
from plumbline_serve.edge.problems import PROBLEM_JSON, problem
from plumbline_serve.edge.received import TIMEOUT
from plumbline_serve.edge.rest.body import DOCUMENT_PART, FORM, JSON
from plumbline_serve.edge.rest.contract_routes import ContractRoute
from plumbline_serve.edge.rest.examples import IMAGE_PART, examples, form_examples
from plumbline_serve.edge.rest.routes import EXPOSITION
from plumbline_serve.edge.values import ARTEFACT_NAME
from plumbline_wire import REQUEST_ID_KEY

Document: TypeAlias = dict[str, Any]

REQUESTS: Mapping[str, type[BaseModel]] = {
    "/v1/score": schemas.ScoreRequest,
    "/v1/rank": schemas.RankRequest,
    "/v1/filter": schemas.FilterRequest,
    "/v1/embed": schemas.EmbedRequest,
    "/v1/select": schemas.SelectRequest,
    "/v1/calibrations": schemas.CalibrationRequest,
    "/v1/classifiers": schemas.ClassifierRequest,
    "/v1/references": schemas.ReferenceRequest,
    "/v1/sets/diversity": schemas.DiversityRequest,
    "/v1/sets/distance": schemas.DistanceRequest,
    "/v1/sets/audit": schemas.AuditRequest,
    "/v1/sets/references": schemas.ReferenceSetRequest,
}
"""Of what is posted."""
REPLIES: Mapping[tuple[str, str], type[BaseModel]] = {
    ("post", "/v1/score"): schemas.ScoreReply,
    ("post", "/v1/rank"): schemas.RankReply,
    ("post", "/v1/filter"): schemas.FilterReply,
    ("post", "/v1/embed"): schemas.EmbedReply,
    ("post", "/v1/select"): schemas.SelectReply,
    ("post", "/v1/calibrations"): schemas.CalibrationReply,
    ("get", "/v1/calibrations"): schemas.CalibrationsReply,
    ("get", "/v1/calibrations/{name}"): schemas.Calibration,
    ("post", "/v1/classifiers"): schemas.ClassifierReply,
    ("get", "/v1/classifiers"): schemas.ClassifiersReply,
    ("post", "/v1/references"): schemas.ReferenceReply,
    ("get", "/v1/references"): schemas.ReferencesReply,
    ("get", "/v1/drift"): schemas.DriftReply,
    ("post", "/v1/sets/diversity"): schemas.DiversityReply,
    ("post", "/v1/sets/distance"): schemas.DistanceReply,
    ("post", "/v1/sets/audit"): schemas.AuditReply,
    ("post", "/v1/sets/references"): schemas.ReferenceSetReply,
    ("get", "/v1/sets/references"): schemas.ReferenceSetsReply,
    ("get", "/v1/scorers"): schemas.ScorersReply,
    ("get", "/v1/models"): schemas.ModelsReply,
}
_DESCRIPTION = "Scores images against their prompts: alignment, misaligned words, quality."
_NAMED = "/{name}"
_NAMES_ARTEFACTS = frozenset({"/v1/filter", "/v1/sets/distance"})
"""Requests that may name what is not kept; so may every path that ends in a name."""
_TEMPLATE = (400, 401, 403, 413, 415, 422, 429, 500, 503, 504)
_READING = (401, 403, 429, 500, 503)
_FORM_NOTE = (
    f"The part `{DOCUMENT_PART}` holds the JSON; every other part is the raw bytes of an image, named by "
    '`{"part": "name"}`. No base64: the fast way.'
)
_PART_NOTE = "An image file, which the request names as `image`; parts of other names are further images."
_EXAMPLE_ID = "7f1c0f3e5b1d4f0c9c0a1b2c3d4e5f60"
_LIMITS = {"ratelimit": "RateLimit", "ratelimit-policy": "RateLimitPolicy"}
_SCHEMES = {"key": {"type": "http", "scheme": "bearer", "description": "An API key, where the service asks for one."}}


class _Generator(GenerateJsonSchema):
    """What may be left out has no default of null: it would be sent."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """The schema of a field that has a default."""
        is_null = schema.get("default", ...) is None
        return self.generate_inner(schema["schema"]) if is_null else super().default_schema(schema)


def describe(routes: Iterable[ContractRoute], *, open_paths: frozenset[str], scorers: Sequence[str]) -> Document:
    """Make the document.

    Args:
        routes: Those of the contract.
        open_paths: Those that need no key.
        scorers: Which are configured: the requests to try are theirs.
    """
    app = _with_routes(routes)
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    models: list[type[BaseModel]] = [*REQUESTS.values(), *REPLIES.values(), schemas.Problem]
    _, definitions = models_json_schema(
        [(each, "validation") for each in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    components = document.setdefault("components", {})
    components["schemas"] = definitions["$defs"]
    components["securitySchemes"] = _SCHEMES
    components["responses"] = {f"Problem{status}": _problem_response(status) for status in sorted({*_TEMPLATE, 404})}
    components["headers"] = {
        "RequestId": {
            "description": "The caller's, if it sent a usable one.",
            "required": True,
            "schema": {"type": "string"},
        },
        "RetryAfter": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}},
        "RateLimit": {"description": "What the key may still use, where it has limits.", "schema": {"type": "string"}},
        "RateLimitPolicy": {"description": "What it may use in all.", "schema": {"type": "string"}},
    }
    components["parameters"] = _parameters()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, path, is_open=path in open_paths)
            if method == "post" and path in REQUESTS:
                operation["requestBody"] = _request_body(path, scorers)
    return document


def _with_routes(routes: Iterable[ContractRoute]) -> FastAPI:
    """An application that only describes itself."""
    app = FastAPI(title="Plumbline", version=version("plumbline-serve"), description=_DESCRIPTION)
    for each in routes:
        app.add_api_route(
            each.path,
            each.handler,
            methods=[each.method],
            tags=[each.tag],
            operation_id=each.handler.__name__,
            response_class=Response,
        )
    return app


def _complete(operation: Document, method: str, path: str, *, is_open: bool) -> None:
    operation["security"] = [{}] if is_open else [{}, {"key": []}]
    operation["parameters"] = [_ref("parameters", "RequestId")]
    if path.endswith(_NAMED):
        operation["parameters"].append(_ref("parameters", "ArtefactName"))
    has_body = method == "post" and path in REQUESTS
    if has_body:
        operation["parameters"].append(_ref("parameters", "Timeout"))
    responses = operation["responses"] = {"200": _success(method, path)}
    named = (404,) if path in _NAMES_ARTEFACTS or path.endswith(_NAMED) else ()
    for status in (*(_TEMPLATE if has_body else () if is_open else _READING), *named):
        responses[str(status)] = _ref("responses", f"Problem{status}")
    if path == "/readyz":
        responses["503"] = _ref("responses", "Problem503")


def _request_body(path: str, scorers: Sequence[str]) -> Document:
    reference = _schema(REQUESTS[path])
    binary = {"type": "string", "format": "binary"}
    in_json, in_form = examples(scorers).get(path), form_examples(scorers).get(path)
    form = {
        "type": "object",
        "description": _FORM_NOTE,
        "properties": {
            DOCUMENT_PART: reference | ({"examples": [in_form]} if in_form else {}),
            IMAGE_PART: {**binary, "description": _PART_NOTE},
        },
        "required": [DOCUMENT_PART],
        "additionalProperties": binary,
    }
    encoding = {DOCUMENT_PART: {"contentType": JSON}}
    content = {
        JSON: {"schema": reference} | ({"example": in_json} if in_json else {}),
        FORM: {"schema": form, "encoding": encoding},
    }
    return {"required": True, "content": content}


def _success(method: str, path: str) -> Document:
    reply = REPLIES.get((method, path))
    content: Document = {JSON: {"schema": _STATUS if reply is None else _schema(reply)}}
    if path == "/metrics":
        content = {EXPOSITION: {"schema": {"type": "string"}}}
    return {"description": "Done.", "headers": _headers(), "content": content}


def _headers(**others: str) -> Document:
    """References to those of every reply, and to others by name."""
    names = {REQUEST_ID_KEY: "RequestId", **_LIMITS, **others}
    return {name: _ref("headers", described) for name, described in names.items()}


_SECONDS = r"^(?![0.]*$)([0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9})$"
_STATUS = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}


def _problem_response(status: int) -> Document:
    kinds = [kind for kind in error_classes() if kind.status == status]
    shown = kinds[:1] if status == PlumblineError.status else kinds  # those below 500 are found at start-up
    is_later = any(issubclass(kind, CapacityError) for kind in shown)
    headers = _headers(**({"retry-after": "RetryAfter"} if is_later else {}))
    examples = {kind.code: {"value": problem(kind(f"{kind.title}."), _EXAMPLE_ID)} for kind in shown}
    return {
        "description": "; ".join(kind.title for kind in shown) + ".",
        "headers": headers,
        "content": {PROBLEM_JSON: {"schema": _schema(schemas.Problem), "examples": examples}},
    }


def _parameters() -> Document:
    return {
        "RequestId": {
            "name": REQUEST_ID_KEY,
            "in": "header",
            "required": False,
            "description": "Names the request in its answer and in the log: 1 to 128 printable ASCII characters. "
            "Any other is replaced by a new one.",
            "schema": {"type": "string"},
        },
        "ArtefactName": {
            "name": "name",
            "in": "path",
            "required": True,
            "description": "Of what is kept.",
            "schema": {"type": "string", "pattern": ARTEFACT_NAME},
        },
        "Timeout": {
            "name": TIMEOUT,
            "in": "header",
            "required": False,
            "description": "As `timeout_ms`, in seconds; the smaller one wins.",
            "schema": {"type": "string", "pattern": _SECONDS},
        },
    }


def _schema(schema: type[BaseModel]) -> Document:
    return _ref("schemas", schema.__name__)


def _ref(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}
