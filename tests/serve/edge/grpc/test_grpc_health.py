import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline_wire import SCORING_SERVICE

RESPONSE = health_pb2.HealthCheckResponse


def probe(edge) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(edge.channel)


@pytest.mark.parametrize("service", ["", SCORING_SERVICE])
def test_the_service_serves_only_while_it_is_ready(edge, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    assert probe(edge).Check(request).status == RESPONSE.SERVING
    edge.service.is_ready = False
    assert probe(edge).Check(request).status == RESPONSE.NOT_SERVING


def test_all_services_are_listed_with_how_they_are(edge) -> None:
    listed = probe(edge).List(health_pb2.HealthListRequest()).statuses
    assert {name: each.status for name, each in listed.items()} == {
        "": RESPONSE.SERVING,
        SCORING_SERVICE: RESPONSE.SERVING,
    }


def test_a_service_that_is_not_here_is_not_found(edge) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        probe(edge).Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_watching_tells_each_change_and_ends_when_serving_does(edge) -> None:
    edge.service.is_ready = False
    watch = probe(edge).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == RESPONSE.NOT_SERVING
    edge.service.is_ready = True
    assert next(watch).status == RESPONSE.SERVING
    edge.service.is_ready = False
    assert [each.status for each in watch] == [RESPONSE.NOT_SERVING]


def test_watching_a_service_that_is_not_here_says_so(edge) -> None:
    watch = probe(edge).Watch(health_pb2.HealthCheckRequest(service="other"))
    assert next(watch).status == RESPONSE.SERVICE_UNKNOWN
    watch.cancel()


def test_probes_need_no_key(guarded_edge) -> None:
    assert probe(guarded_edge).Check(health_pb2.HealthCheckRequest()).status == RESPONSE.SERVING
