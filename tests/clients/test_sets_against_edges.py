"""The four clients against the real edges, about sets of images; see `test_clients_against_edges`."""

import hashlib
import math
from typing import cast

import pytest

from plumbline_client import EncodingSet, ForbiddenError, Image, UsageError
from plumbline_models.sets.vectors import unit_rows
from plumbline_serve import messages
from tests.clients.counting_service import PIXELS


async def test_sets_get_through_in_each_form(ask, running) -> None:
    files = [Image.data(b"a"), Image.data(b"b")]
    found = await ask("diversity", files, texts=["x", "y"], orders=[0.5, math.inf], near_duplicate=None)
    assert (found.n, found.duplicates, found.vendi["1"]) == (2, ((0, 2),), 1 / 3)
    assert (found.sce.image, found.sce.corrected, found.sce.reliable) == (1.5, None, False)
    assert [(each.index, each.error.code) for each in found.errors] == [(1, "image_undecodable")]
    asked = running.service.requests[-1]
    assert (asked.images, asked.orders) == ([messages.EncodedImage(b"a"), messages.EncodedImage(b"b")], [0.5, math.inf])
    assert (asked.texts, asked.weights, asked.near_duplicate) == (["x", "y"], None, None)
    vectors = (await ask("embed", ["a", "bb"])).vectors
    apart = await ask("distance", EncodingSet.embeddings(vectors, encoder="mine"), EncodingSet.seen(files), rbf_sigma=2)
    assert (apart.frechet, apart.frechet_floor, apart.mmd_polynomial, apart.rbf_sigma) == (1 / 3, 0.5, -0.25, 2.0)
    asked = running.service.requests[-1]
    assert (asked.a.encoder, list(asked.b.hashes)) == ("mine", [hashlib.sha256(b).hexdigest() for b in (b"a", b"b")])
    assert unit_rows(asked.a.embeddings) == pytest.approx(unit_rows([each.floats() for each in vectors]))
    assert unit_rows(asked.a.embeddings).shape == (2, 2)
    await ask("distance", files, reference="launch")
    asked = running.service.requests[-1]
    assert (asked.b, asked.reference) == (None, "launch")


async def test_sets_are_kept_listed_and_forgotten(ask, running) -> None:
    key, files = {"api_key": "deciding-key"}, [Image.data(b"a"), Image.data(b"b")]
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("refer_set", "launch", files)
    made = await ask("refer_set", "launch", files, change=key)
    assert (made.name, made.encoder, made.n, made.dim) == ("launch", "mini", 2, 2)
    assert made.bound_to.conventions == {"images.alpha": "white"}
    assert [each.name for each in await ask("reference_sets")] == ["launch"]
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("delete_reference_set", "launch")
    await ask("delete_reference_set", "launch", change=key)
    assert await ask("reference_sets") == ()


async def test_audits_get_through(ask, running) -> None:
    found = await ask(
        "audit", ["a", "b"], members=[Image.data(b"x")], prompts=["p", "q"], pair=("a", "b"), wanted=(1, 2),
        elements={"explicit": ("cup",)}, is_official=True,
    )  # fmt: skip
    assert (found.caution, found.n, found.absent, found.guesses[0].label) == ("Beware.", 2, ("b",), None)
    assert (found.spread.parity_gap, found.intervals["parity_gap"]) == (pytest.approx(1 / 3), (0.1, 1 / 3))
    assert (found.elements.explicit_missing, found.elements.implied_missing) == (0.25, None)
    assert (found.groups[0].name, found.groups[0].share, found.groups[0].skew) == ("a", 1 / 3, None)
    asked = running.service.requests[-1]
    assert (asked.groups, asked.prompts, asked.pair, asked.wanted) == (["a", "b"], ["p", "q"], ["a", "b"], [1.0, 2.0])
    assert (asked.elements.explicit, asked.compat, asked.margin) == (["cup"], "official", 0.2)
    await ask("audit", ["a", "b"], labels=["a", None], margin=0.5, association=0.1)
    asked = running.service.requests[-1]
    assert (asked.labels, asked.images, asked.margin, asked.association) == (["a", None], [], 0.5, 0.1)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(lambda: EncodingSet.seen([Image.raw(PIXELS)]), id="pixels have no file"),
        pytest.param(lambda: EncodingSet.seen(["abc"]), id="no digest"),
        pytest.param(lambda: EncodingSet.embeddings([cast("list[float]", ["a"])]), id="no numbers"),
    ],
)
def test_what_is_no_set_is_not_sent(members) -> None:
    with pytest.raises(UsageError):
        members()
