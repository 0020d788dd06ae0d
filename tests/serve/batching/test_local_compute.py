"""Encoders of this process: loaded before they take work, and given up when they do none."""

import logging

import pytest

from plumbline_models.core.errors import EngineError
from plumbline_serve.batching import LocalCompute
from plumbline_serve.scheduling.request_context import RequestContext
from tests.serve.batching.gates import LIMITS


async def test_encoders_that_get_ready_are_counted_in_the_log(make_encoder, observer, caplog):
    caplog.set_level(logging.INFO)
    compute = LocalCompute([make_encoder(key=name) for name in ("a", "b")], LIMITS, observer)
    await compute.start()
    said = [each.getMessage() for each in caplog.records if "ready" in each.getMessage()]
    assert [each.partition(" encoders")[0] for each in said] == ["1 of 2", "2 of 2"]
    await compute.close()


async def test_an_encoder_that_fails_on_every_batch_is_given_up_until_one_works(make_encoder, observer):
    encoder = make_encoder()
    compute = LocalCompute([encoder], LIMITS, observer)
    await compute.start()
    await compute.encode(encoder.key, [0.0], RequestContext())
    encoder.is_broken = True
    for _ in range(3):
        compute.check_alive()
        await compute.encode(encoder.key, [1.0], RequestContext())
    with pytest.raises(EngineError):
        compute.check_alive()
    assert (compute.is_ready, observer.num_broken) == (False, 3)
    encoder.is_broken = False
    await compute.encode(encoder.key, [1.0], RequestContext())
    compute.check_alive()
    assert compute.is_ready
    await compute.close()
