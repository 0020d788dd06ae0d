import numpy as np
import pytest

from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.templated import TemplatedTextEncoder
from plumbline_models.networks.encoder_registry import EncoderRegistry
from tests.results import succeeded


def test_a_template_stands_before_every_text(tiny_spec: ClipSpec, torch_fp32: Backend) -> None:
    plain = ClipTextEncoder(tiny_spec, torch_fp32)
    templated = TemplatedTextEncoder(plain, "A photo depicts ")
    templated.load()
    [found] = succeeded(templated.encode([templated.preprocess("a cup")]))
    [expected] = succeeded(plain.encode([plain.preprocess("A photo depicts a cup")]))
    assert np.array_equal(found, expected)
    assert templated.cost(templated.preprocess("a cup")) == 1.0
    assert templated.bucket(templated.preprocess("a cup")) == 8
    assert templated.max_batch_cost == plain.max_batch_cost
    assert templated.info().key == templated.key
    assert templated.info().notes["template"] == "A photo depicts "


def test_templates_are_never_taken_for_each_other(tiny_spec: ClipSpec, torch_fp32: Backend) -> None:
    plain = ClipTextEncoder(tiny_spec, torch_fp32)
    keys = {plain.key} | {TemplatedTextEncoder(plain, template).key for template in ("a", "a ", "b ")}
    assert len(keys) == 4


def test_only_texts_have_templates(tiny_spec: ClipSpec, torch_fp32: Backend) -> None:
    with pytest.raises(InvalidFieldError, match="takes texts"):
        TemplatedTextEncoder(ClipTextEncoder(tiny_spec, torch_fp32), "a ").preprocess(np.zeros((2, 2, 3), np.uint8))


def test_a_registry_keeps_the_first_encoder_of_each_key(tiny_spec: ClipSpec, torch_fp32: Backend) -> None:
    registry = EncoderRegistry()
    first, second = (ClipImageEncoder(tiny_spec, torch_fp32) for _ in range(2))
    text = ClipTextEncoder(tiny_spec, torch_fp32)
    assert registry.take(first) is first
    assert registry.take(second) is first
    assert registry.take(text) is text
    assert registry.encoders == (first, text)
