"""The same random requests where keys are asked for: without one nothing is done, with one all is as before."""

from collections.abc import Iterator

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline_serve.settings.access import AuthSettings
from tests.fuzz.inputs import requests
from tests.fuzz.served import NUM_CASES, Served, cases, opened
from tests.fuzz.test_grpc_messages import RPCS
from tests.fuzz.test_rest_schema import GETS, POSTS, check
from tests.keys import add_key

KEY = "a-key"
PROBES = {"/livez", "/readyz"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("guarded")
    keys = add_key(folder / "keys.yaml", KEY, scopes=("score", "admin"))
    with opened(folder, auth=AuthSettings(keys_file=keys)) as service:
        yield service


@pytest.fixture
def with_key(guarded: Served) -> Iterator[Served]:
    guarded.key = KEY
    yield guarded
    guarded.key = None


@cases(0.5)
@given(data=st.data())
def test_with_a_key_replies_are_as_the_schema_says(with_key: Served, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([*POSTS, *GETS]))
    method = "POST" if path in POSTS else "GET"
    check(with_key, data.draw(with_key.schema[path][method].as_strategy()))


@cases(0.5)
@given(data=st.data())
def test_without_a_key_nobody_is_answered_but_probes(guarded: Served, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([*POSTS, *GETS]))
    case = data.draw(guarded.schema[path]["POST" if path in POSTS else "GET"].as_strategy())
    body = data.draw(st.binary(max_size=200))
    sent = {str(name): str(value) for name, value in (case.headers or {}).items() if str(value).isascii()}
    reply = guarded.rest(
        case.method, path, body, {**sent, "authorization": data.draw(st.sampled_from(["", "Bearer x"]))}
    )
    NUM_CASES["REST without a key"] += 1
    assert reply.status_code == (200 if path in PROBES else 401)


@cases(0.2)
@given(data=st.data())
def test_without_a_key_no_message_is_read(guarded: Served, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(RPCS)))
    reply = guarded.rpc(name, data.draw(requests(RPCS[name][0])))
    NUM_CASES["gRPC without a key"] += 1
    assert isinstance(reply, grpc.RpcError)
    assert reply.code() is grpc.StatusCode.UNAUTHENTICATED
