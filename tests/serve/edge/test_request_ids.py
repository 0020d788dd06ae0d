import re

import pytest

from plumbline_serve.edge.request_ids import request_id


@pytest.mark.parametrize("sent", ["a", "x" * 128, "with space", "7f1c-0f3e", "~!@#"])
def test_a_usable_id_is_kept(sent: str) -> None:
    assert request_id(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "   ", "x" * 129, "a\nb", "a\x7f", "naïve", "tab\there"], ids=repr)
def test_any_other_is_replaced_by_a_new_one(sent: str | None) -> None:
    made = request_id(sent)
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert made != request_id(sent)
