from pathlib import Path
from typing import Any

import pytest

from plumbline_models.backends import Tuning
from plumbline_models.core.errors import ConfigError


@pytest.mark.parametrize("fields", [{"num_threads": 0}, {"num_threads": 1025}, {"num_streams": 0}, {"max_batch": 0}])
def test_numbers_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Tuning(Path("engines"), **fields)


def test_threads_are_left_to_the_machine_by_default() -> None:
    assert Tuning(Path("engines")).num_threads is None
