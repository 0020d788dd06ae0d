import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from plumbline_models.core.errors import error_classes

CONTRACT = {
    "/v1/score": {"post"},
    "/v1/rank": {"post"},
    "/v1/filter": {"post"},
    "/v1/embed": {"post"},
    "/v1/sets/diversity": {"post"},
    "/v1/sets/distance": {"post"},
    "/v1/sets/audit": {"post"},
    "/v1/sets/references": {"post", "get"},
    "/v1/sets/references/{name}": {"delete"},
    "/v1/select": {"post"},
    "/v1/calibrations": {"post", "get"},
    "/v1/calibrations/{name}": {"get", "delete"},
    "/v1/classifiers": {"post", "get"},
    "/v1/classifiers/{name}": {"delete"},
    "/v1/references": {"post", "get"},
    "/v1/references/{name}": {"delete"},
    "/v1/drift": {"get"},
    "/v1/scorers": {"get"},
    "/v1/models": {"get"},
    "/v1/admin/reload": {"post"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}
B64 = {"b64": "aGFsbG8="}
FLAT = {"height": 1, "width": 1}
CALIBRATION = {
    "name": "launch", "scorer": "sum", "alpha": 0.05, "direction": "keep_good",
    "scores": [0.5, 1], "labels": [True, False],
}  # fmt: skip
CLASSIFIER = {
    "name": "logo",
    "classes": {"yes": [B64, B64], "no": [B64, B64]},
    "prompts": {"yes": "a logo", "no": "none"},
}
ONE, TWO = ({name: {"method": "sum", "terms": [{"scorer": "sum"}]}} for name in ("one", "two"))
REQUESTS = [
    pytest.param(
        "/v1/score", {"items": [{"image": B64, "text": "a"}, {"image": "k"}, {}], "images": {"k": B64}}, id="score"
    ),
    pytest.param("/v1/score", {"items": [{"image": {}}]}, id="no source"),
    pytest.param("/v1/score", {"items": [{"image": {"b64": "", "url": ""}}]}, id="two sources"),
    pytest.param("/v1/score", {"items": [{"image": B64 | {"raw": {"height": 1, "width": 1}}}]}, id="raw beside base64"),
    pytest.param("/v1/score", {"items": [{"image": 1}]}, id="image as number"),
    pytest.param("/v1/score", {"items": [], "timeout_ms": 0}, id="timeout of zero"),
    pytest.param("/v1/score", {"items": [], "more": 0}, id="unknown field"),
    pytest.param("/v1/score", {}, id="no items"),
    pytest.param("/v1/filter", {"items": [{}], "policy": {"all": [{"scorer": "sum", "min": 0}]}}, id="filter"),
    pytest.param("/v1/filter", {"items": [{}], "policy": {"all": [{"scorer": "sum"}]}}, id="no bounds"),
    pytest.param("/v1/filter", {"items": [{}], "policy": {"all": []}}, id="no policy"),
    pytest.param(
        "/v1/filter", {"items": [{}], "policy": {"all": [{"scorer": "sum", "calibration": "a"}]}}, id="calibration"
    ),
    pytest.param(
        "/v1/filter",
        {"items": [{}], "policy": {"all": [{"scorer": "sum", "calibration": "a", "min": 0}]}},
        id="calibration beside a bound",
    ),
    pytest.param(
        "/v1/filter", {"items": [{}], "policy": {"all": [{"scorer": "sum", "calibration": "A"}]}}, id="no such name"
    ),
    pytest.param("/v1/select", {"text": "a", "images": [B64], "correlation": 0.5}, id="select"),
    pytest.param("/v1/select", {"text": "a", "images": [B64], "correlation": 1.5}, id="no correlation"),
    pytest.param("/v1/select", {"text": "a", "images": [B64], "correlation_interval": [0.5]}, id="half an interval"),
    pytest.param("/v1/select", {"text": "a", "images": [B64], "temperature": 0}, id="no temperature"),
    pytest.param("/v1/calibrations", CALIBRATION, id="calibrate"),
    pytest.param("/v1/calibrations", CALIBRATION | {"groups": ["x", "y"], "confidence": 0.9}, id="calibrate groups"),
    pytest.param("/v1/calibrations", CALIBRATION | {"alpha": 0}, id="nothing may be lost"),
    pytest.param("/v1/calibrations", CALIBRATION | {"labels": [1, 0]}, id="labels as numbers"),
    pytest.param("/v1/calibrations", CALIBRATION | {"scores": []}, id="no scores"),
    pytest.param("/v1/calibrations", CALIBRATION | {"scorer": None, "combine": ONE}, id="calibrate a combination"),
    pytest.param("/v1/calibrations", CALIBRATION | {"combine": ONE}, id="calibrate both"),
    pytest.param("/v1/calibrations", CALIBRATION | {"scorer": None}, id="calibrate nothing"),
    pytest.param("/v1/calibrations", CALIBRATION | {"scorer": None, "combine": ONE | TWO}, id="calibrate two"),
    pytest.param("/v1/classifiers", CLASSIFIER, id="classify"),
    pytest.param("/v1/classifiers", CLASSIFIER | {"name": "A"}, id="no name of a classifier"),
    pytest.param("/v1/classifiers", CLASSIFIER | {"classes": {"yes": [B64, B64]}}, id="one class"),
    pytest.param("/v1/classifiers", CLASSIFIER | {"classes": {"yes": [B64], "no": [B64, B64]}}, id="one shot"),
    pytest.param("/v1/references", {"scorer": "sum", "from_live": True}, id="refer to what is live"),
    pytest.param("/v1/references", {"scorer": "sum", "values": [0.5] * 100}, id="refer to values"),
    pytest.param("/v1/references", {"scorer": "sum", "values": [0.5] * 99}, id="too few values"),
    pytest.param("/v1/references", {"scorer": "sum"}, id="refer to nothing"),
    pytest.param("/v1/references", {"scorer": "sum", "from_live": False}, id="refer to nothing, said so"),
    pytest.param("/v1/references", {"scorer": "sum", "values": [0.5] * 100, "from_live": True}, id="refer to both"),
    pytest.param("/v1/score", {"items": [{}], "guards": {"views": True}}, id="guards"),
    pytest.param("/v1/score", {"items": [{}], "guards": {"view": True}}, id="guards of no such name"),
    pytest.param("/v1/rank", {"text": "a", "images": [B64]}, id="rank images"),
    pytest.param("/v1/rank", {"image": B64, "texts": ["a"], "top_k": 1}, id="rank texts"),
    pytest.param("/v1/rank", {"text": "a", "texts": ["a"]}, id="rank texts for a text"),
    pytest.param("/v1/rank", {"text": "a", "images": [B64], "top_k": 0}, id="rank no places"),
    pytest.param("/v1/embed", {"texts": ["a"], "encoding": "base64"}, id="embed"),
    pytest.param("/v1/embed", {"texts": ["a"], "images": []}, id="embed both"),
    pytest.param("/v1/embed", {"texts": ["a"], "encoding": "hex"}, id="embed in hex"),
    pytest.param("/v1/score", {"items": [{"image": B64 | {"url": None, "raw": None}}]}, id="null is not given"),
    pytest.param("/v1/score", {"items": [{"image": {"b64": None}}]}, id="only null is given"),
    pytest.param("/v1/score", {"items": [{"image": B64 | {"part": None, "raw": FLAT}}]}, id="raw beside a null"),
    pytest.param("/v1/filter", {"items": [{}], "policy": {"all": [{"scorer": "sum", "min": None}]}}, id="null bound"),
    pytest.param("/v1/rank", {"text": "a", "images": [B64], "image": None, "texts": None}, id="rank beside nulls"),
    pytest.param("/v1/rank", {"text": "a", "images": [B64], "image": B64}, id="rank a third beside two"),
    pytest.param("/v1/rank", {"text": "a", "images": None}, id="rank null"),
    pytest.param("/v1/rank", {"text": "a", "images": [B64], "top_k": 1.0}, id="a whole number with a point"),
    pytest.param("/v1/rank", {"text": "a", "images": [B64], "top_k": 1.5}, id="no whole number"),
    pytest.param("/v1/embed", {"texts": ["a"], "images": None}, id="embed beside a null"),
    pytest.param("/v1/embed", {"texts": None}, id="embed null"),
    pytest.param("/v1/score", {"items": [{}], "scorers": []}, id="no scorers"),
    pytest.param("/v1/score", {"items": [{"frames": [B64, "a"], "pool": "min", "image": None}]}, id="frames"),
    pytest.param("/v1/score", {"items": [{"frames": [B64], "image": "a"}]}, id="frames beside an image"),
    pytest.param("/v1/score", {"items": [{"frames": []}]}, id="no frames"),
    pytest.param("/v1/sets/diversity", {"images": [B64], "near_duplicate": None}, id="diversity of images"),
    pytest.param("/v1/sets/diversity", {"embeddings": [[1, 2.5], "AAAA"], "orders": [1, "inf"]}, id="of embeddings"),
    pytest.param("/v1/sets/diversity", {"embeddings": [[]]}, id="an embedding without numbers"),
    pytest.param("/v1/sets/diversity", {"embeddings": [["1"]]}, id="an embedding of strings"),
    pytest.param("/v1/sets/diversity", {"hashes": ["0" * 63]}, id="no SHA-256"),
    pytest.param("/v1/sets/diversity", {"hashes": ["0" * 64], "images": []}, id="a set in two forms"),
    pytest.param("/v1/sets/diversity", {"images": [B64], "encoder": ""}, id="an encoder beside images"),
    pytest.param("/v1/sets/diversity", {"images": [B64], "orders": [0.4]}, id="an order too low"),
    pytest.param("/v1/sets/diversity", {"images": [B64], "orders": ["two"]}, id="an order in words"),
    pytest.param("/v1/sets/diversity", {"images": [B64], "weights": [0]}, id="a weight of nothing"),
    pytest.param("/v1/sets/distance", {"a": {"images": [B64]}, "b": {"hashes": ["0" * 64]}}, id="distance"),
    pytest.param("/v1/sets/audit", {"groups": ["a", "b"], "labels": ["a", None]}, id="audit of labels"),
    pytest.param("/v1/sets/audit", {"groups": ["a", "b"], "prompts": ["x", "y"], "images": [B64]}, id="of images"),
    pytest.param("/v1/sets/audit", {"groups": ["a", "b"]}, id="audit of nothing"),
    pytest.param("/v1/sets/audit", {"groups": ["a"], "labels": ["a"]}, id="audit of one group"),
    pytest.param("/v1/sets/audit", {"groups": ["a", "b"], "labels": ["a"], "prompts": ["x", "y"]}, id="both"),
    pytest.param("/v1/sets/audit", {"groups": ["a", "b"], "labels": ["a"], "pair": ["a"]}, id="half a pair"),
    pytest.param("/v1/sets/audit", {"groups": ["a", "b"], "labels": ["a"], "elements": {"x": []}}, id="elements"),
    pytest.param("/v1/sets/distance", {"a": {"images": [B64]}, "b": {}}, id="distance to nothing"),
    pytest.param("/v1/sets/distance", {"a": {"images": [B64]}}, id="distance without another"),
    pytest.param("/v1/sets/distance", {"a": {"images": [B64]}, "reference": "launch"}, id="distance to what is kept"),
    pytest.param(
        "/v1/sets/distance", {"a": {"images": [B64]}, "b": {"images": [B64]}, "reference": "x"}, id="to two others"
    ),
    pytest.param("/v1/sets/references", {"name": "launch", "images": [B64]}, id="a set to keep"),
    pytest.param("/v1/sets/references", {"name": "a b", "images": [B64]}, id="a name of two words"),
    pytest.param("/v1/sets/references", {"name": "a", "embeddings": [[1]], "encoder": "x"}, id="embeddings to keep"),
    pytest.param("/v1/sets/references", {"name": "a", "embeddings": [[1]]}, id="embeddings of nobody"),
]


@pytest.fixture
def document(edge) -> dict:
    return edge.http.get("/openapi.json").json()


def resolved(document: dict, schema: dict) -> dict:
    return schema | {"components": document["components"]}


def test_the_document_is_valid_openapi_3_1(document: dict) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_it_describes_the_routes_of_the_contract_and_no_others(document: dict) -> None:
    assert {path: set(operations) for path, operations in document["paths"].items()} == CONTRACT


def test_operations_have_distinct_names(document: dict) -> None:
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    kept = ("/v1/calibrations", "/v1/classifiers", "/v1/references", "/v1/sets/references")
    alone = {path.rsplit("/", 1)[1] for path in CONTRACT if not path.startswith(kept)}
    of_kept = {
        *("calibrate", "calibrations", "calibration", "delete_calibration"),
        *("classify", "classifiers", "delete_classifier", "refer", "references", "delete_reference"),
        *("refer_set", "reference_sets", "delete_reference_set"),
    }
    assert sorted(names) == sorted(alone | of_kept)


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_the_schema_and_the_service_agree_on_what_is_wrong(edge, document: dict, path: str, body: dict) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    validator = jsonschema.Draft202012Validator(resolved(document, content["application/json"]["schema"]))
    assert validator.is_valid(body) == (edge.post(path, body).status_code == 200)


@pytest.mark.parametrize("seconds", ["1", "0.5", ".5", "007", "0", "0.0", ".", "-1", "1e3", "5e-324", "1.", "", "nan"])
def test_the_schema_and_the_service_agree_on_the_header_of_seconds(edge, document: dict, seconds: str) -> None:
    schema = document["components"]["parameters"]["Timeout"]["schema"]
    reply = edge.http.post("/v1/score", json={"items": [{}]}, headers={"x-request-timeout-seconds": seconds})
    assert jsonschema.Draft202012Validator(schema).is_valid(seconds) == (reply.status_code == 200)


ANSWERS = [
    ("/v1/score", {"items": [{"image": B64, "text": "a"}, {"image": B64}, {"image": "x"}]}, 200),
    ("/v1/filter", {"items": [{"image": B64}, {"image": "x"}], "policy": {"all": [{"scorer": "sum", "min": 0}]}}, 200),
    ("/v1/rank", {"text": "a", "images": [B64, {"url": "x"}]}, 200),
    ("/v1/embed", {"images": [B64, {"url": "x"}]}, 200),
    ("/v1/embed", {"texts": ["a"], "encoding": "base64"}, 200),
    ("/v1/sets/diversity", {"images": [B64, {"url": "x"}], "texts": ["a", "b"]}, 200),
    ("/v1/sets/audit", {"groups": ["a", "b"], "labels": ["a", None], "association": 0.5}, 200),
    ("/v1/sets/audit", {"groups": ["a", "b"], "prompts": ["x", "y"], "images": [B64], "elements": {}}, 200),
    ("/v1/sets/diversity", {"embeddings": [[1.0]], "encoder": "mine"}, 200),
    ("/v1/sets/distance", {"a": {"images": [B64]}, "b": {"embeddings": ["AACAPw=="]}}, 200),
    ("/v1/score", {"items": [{"text": 1}]}, 422),
    ("/v1/score", {"items": [{"text": "raise overloaded"}]}, 429),
    ("/v1/score", {"items": [{"text": "crash"}]}, 500),
    ("/v1/scorers", None, 200),
    ("/v1/models", None, 200),
    ("/v1/classifiers", CLASSIFIER, 200),
    ("/v1/classifiers", None, 200),
    ("/v1/references", {"scorer": "sum", "from_live": True}, 200),
    ("/v1/references", None, 200),
    ("/v1/sets/references", {"name": "launch", "images": [B64, B64]}, 200),
    ("/v1/sets/references", None, 200),
    ("/v1/drift", None, 200),
    ("/livez", None, 200),
]


@pytest.mark.parametrize(("path", "body", "status"), ANSWERS)
def test_answers_are_as_the_schema_says(edge, document: dict, path: str, body, status: int) -> None:
    reply = edge.http.get(path) if body is None else edge.post(path, body)
    assert reply.status_code == status
    operation = document["paths"][path]["get" if body is None else "post"]
    described = operation["responses"][str(status)]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rsplit("/", 1)[1]]
    schema = described["content"][reply.headers["content-type"]]["schema"]
    jsonschema.Draft202012Validator(resolved(document, schema)).validate(reply.json())
    headers = {
        name: document["components"]["headers"][each["$ref"].rsplit("/", 1)[1]]
        for name, each in described["headers"].items()
    }
    assert {name for name, each in headers.items() if each.get("required")} <= set(reply.headers)


def test_every_status_that_a_question_may_get_is_described(document: dict) -> None:
    statuses = {str(kind.status) for kind in error_classes()} - {"404", "405"}
    asked = ("score", "rank", "select", "calibrations", "embed", "sets/diversity", "sets/audit")
    for path in (f"/v1/{each}" for each in asked):
        assert set(document["paths"][path]["post"]["responses"]) == statuses | {"200"}
    for path in ("/v1/filter", "/v1/sets/distance"):
        assert set(document["paths"][path]["post"]["responses"]) == statuses | {"200", "404"}


def test_it_says_which_routes_need_a_key(document: dict) -> None:
    needs = {
        path
        for path, operations in document["paths"].items()
        for each in operations.values()
        if {"key": []} in each["security"]
    }
    assert needs == set(CONTRACT) - {"/livez", "/readyz"}
