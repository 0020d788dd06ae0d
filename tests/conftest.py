"""What holds for the tests of every module."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.programs import unreaped

settings.register_profile("unhurried", deadline=None)  # a case may take long on a machine that does other work
settings.load_profile("unhurried")


@pytest.fixture(scope="module", autouse=True)
def _no_process_is_left_unreaped() -> Iterator[None]:
    """A module waits for what it started: one that ended and stays would be another module's riddle."""
    before = unreaped()
    yield
    assert not {pid: name for pid, name in unreaped().items() if pid not in before}
