"""Who is let in with which `authorization`."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plumbline_models.core.errors import MissingScopeError, UnauthenticatedError
from plumbline_models.core.questions import Question
from plumbline_serve.edge.access import Access
from plumbline_serve.edge.access.access import num_items_of
from plumbline_serve.edge.observe import Unobserved
from plumbline_serve.messages import EmbedRequest, EncodedImage, FilterRequest, Item, RankRequest, ScoreRequest
from plumbline_serve.scheduling.request_context import Caller
from plumbline_serve.settings.access import AuthSettings
from tests.keys import add_key

ITEM = Item("0", None, "a")
IMAGE = EncodedImage(b"")


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    path = add_key(tmp_path / "keys.yaml", "one", name="first", weight=2.0)
    add_key(path, "old", expires=datetime.now(UTC) - timedelta(seconds=1))
    add_key(path, "young", expires=datetime.now(UTC) + timedelta(hours=1), scopes=("admin", "decide"))
    opened = Access.open(AuthSettings(keys_file=path), Unobserved())
    yield opened
    opened.close()


@pytest.mark.parametrize("sent", ["Bearer one", "bearer one", "BEARER   one "])
def test_a_key_lets_its_caller_in_by_name_and_weight(access: Access, sent: str) -> None:
    assert access.check(sent, "score").caller == Caller(tenant="first", weight=2.0)


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", "Bearer ", "one", "Basic one", "Bearer on", "Bearer old"], ids=repr
)
def test_anything_else_does_not(access: Access, sent: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        access.check(sent, "score")
    assert "one" not in caught.value.detail.split()


def test_a_key_is_for_its_scopes_alone(access: Access) -> None:
    access.check("Bearer young", "decide")
    access.check("Bearer young", None)
    for sent, scope in (("Bearer young", "score"), ("Bearer one", "admin"), ("Bearer one", "decide")):
        with pytest.raises(MissingScopeError, match=scope):
            access.check(sent, scope)  # type: ignore[arg-type]


def test_without_a_file_everyone_is_let_in() -> None:
    access = Access.open(AuthSettings(), Unobserved())
    assert access.check(None, "admin").caller == Caller()


@pytest.mark.parametrize(
    ("request_", "num_items"),
    [
        (ScoreRequest(items=[]), 1),
        (ScoreRequest(items=[ITEM] * 7), 7),
        (FilterRequest(policy=[], items=[ITEM] * 2), 2),
        (ScoreRequest(items=[ITEM, replace(ITEM, questions=[Question("b")] * 3)]), 4),
        (ScoreRequest(items=[replace(ITEM, references=["b"] * 64, phrases=["c"] * 64, reference_image=IMAGE)]), 130),
        (RankRequest(images=[IMAGE] * 3, texts=["a"]), 3),
        (RankRequest(images=[IMAGE], texts=["a"] * 5), 5),
        (EmbedRequest(images=[IMAGE] * 4), 4),
        (EmbedRequest(texts=["a"] * 6), 6),
    ],
)
def test_requests_count_by_their_items(request_, num_items: int) -> None:
    assert num_items_of(request_) == num_items
