"""How many cases there are, and the service that they are sent to."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.fuzz.served import NUM_CASES, USUAL_EXAMPLES, Served, opened

settings.register_profile("full", deadline=None, max_examples=10 * USUAL_EXAMPLES, print_blob=True)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with opened(tmp_path_factory.mktemp("cache")) as service:
        yield service


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NUM_CASES:
        listed = ", ".join(f"{kind} {number}" for kind, number in NUM_CASES.items())
        terminalreporter.write_line(f"fuzzing: {NUM_CASES.total()} cases: {listed}")
