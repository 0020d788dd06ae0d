"""The routes of the contract: what replies to each, and what a caller's key must be for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from plumbline_serve.edge.access import Scope
from plumbline_serve.edge.rest.answering import RequestReader
from plumbline_serve.edge.rest.decision_routes import DecisionRoutes
from plumbline_serve.edge.rest.routes import Routes
from plumbline_serve.edge.rest.set_routes import SetRoutes
from plumbline_serve.requests.service_protocol import Service

PROBES = frozenset({"/livez", "/readyz"})
"""Paths that need no key."""


@dataclass(frozen=True, slots=True)
class ContractRoute:
    """A route of the contract."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Response]]
    """Takes the request, or the names in the path, or nothing."""
    tag: str
    scope: Scope = "score"
    """What a caller's key must be for."""


def contract_routes(
    service: Service, reader: RequestReader, routes: Routes, *, has_metrics: bool
) -> tuple[ContractRoute, ...]:
    """Every route, in the order of the schema.

    Args:
        service: What replies.
        reader: Reads requests.
        routes: Those of scoring and operation.
        has_metrics: Whether metrics are among them.
    """
    return (
        *_scoring(routes),
        *_decisions(DecisionRoutes(service, reader)),
        *_sets(SetRoutes(service, reader)),
        *_operation(routes, has_metrics=has_metrics),
    )


def _scoring(routes: Routes) -> tuple[ContractRoute, ...]:
    return (
        ContractRoute("POST", "/v1/score", routes.score, "scoring"),
        ContractRoute("POST", "/v1/rank", routes.rank, "scoring"),
        ContractRoute("POST", "/v1/filter", routes.filter, "scoring"),
        ContractRoute("POST", "/v1/embed", routes.embed, "scoring"),
        ContractRoute("POST", "/v1/select", routes.select, "decisions"),
    )


def _decisions(routes: DecisionRoutes) -> tuple[ContractRoute, ...]:
    return (
        ContractRoute("POST", "/v1/calibrations", routes.calibrate, "decisions", "decide"),
        ContractRoute("GET", "/v1/calibrations", routes.calibrations, "decisions"),
        ContractRoute("GET", "/v1/calibrations/{name}", routes.calibration, "decisions"),
        ContractRoute("DELETE", "/v1/calibrations/{name}", routes.delete_calibration, "decisions", "decide"),
        ContractRoute("POST", "/v1/classifiers", routes.classify, "decisions", "decide"),
        ContractRoute("GET", "/v1/classifiers", routes.classifiers, "decisions"),
        ContractRoute("DELETE", "/v1/classifiers/{name}", routes.delete_classifier, "decisions", "decide"),
        ContractRoute("POST", "/v1/references", routes.refer, "decisions", "decide"),
        ContractRoute("GET", "/v1/references", routes.references, "decisions"),
        ContractRoute("DELETE", "/v1/references/{name}", routes.delete_reference, "decisions", "decide"),
        ContractRoute("GET", "/v1/drift", routes.drift, "decisions"),
    )


def _sets(routes: SetRoutes) -> tuple[ContractRoute, ...]:
    return (
        ContractRoute("POST", "/v1/sets/diversity", routes.diversity, "sets"),
        ContractRoute("POST", "/v1/sets/distance", routes.distance, "sets"),
        ContractRoute("POST", "/v1/sets/audit", routes.audit, "sets"),
        ContractRoute("POST", "/v1/sets/references", routes.refer_set, "sets", "decide"),
        ContractRoute("GET", "/v1/sets/references", routes.reference_sets, "sets"),
        ContractRoute("DELETE", "/v1/sets/references/{name}", routes.delete_reference_set, "sets", "decide"),
    )


def _operation(routes: Routes, *, has_metrics: bool) -> tuple[ContractRoute, ...]:
    always = (
        ContractRoute("GET", "/v1/scorers", routes.scorers, "what is loaded"),
        ContractRoute("GET", "/v1/models", routes.models, "what is loaded"),
        ContractRoute("POST", "/v1/admin/reload", routes.reload, "operation", "admin"),
        ContractRoute("GET", "/livez", routes.livez, "operation"),
        ContractRoute("GET", "/readyz", routes.readyz, "operation"),
    )
    metrics = ContractRoute("GET", "/metrics", routes.metrics, "operation", "admin")
    return (*always, metrics) if has_metrics else always
