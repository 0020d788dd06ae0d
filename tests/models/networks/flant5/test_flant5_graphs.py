"""Each stage of CLIP-FlanT5 against what the authors' program computes on the same weights."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from plumbline_models.images.square import mean_fill, pad_square
from plumbline_models.networks.flant5.weights import build_image_graph, build_score_graph
from plumbline_models.text.questions import QuestionTemplate

TOLERANCE = 2e-5  # float32 sums in another order, on values of the size of one to ten


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Batches this small lose more to a second thread than they gain, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def image_graph(checkpoint):
    return build_image_graph(checkpoint)


@pytest.fixture(scope="module")
def score_graph(checkpoint):
    return build_score_graph(checkpoint, int(checkpoint.pieces.encode("No")[0]))


@dataclass
class Pair:
    """A batch of one for each of the graph's inputs."""

    image_encodings: torch.Tensor
    head_ids: torch.Tensor
    tail_ids: torch.Tensor
    read_ids: torch.Tensor
    answer_ids: torch.Tensor

    @property
    def num_before(self) -> int:
        return self.head_ids.shape[1] + self.image_encodings.shape[1]

    def run(self, graph):
        return graph(self.image_encodings, self.head_ids, self.tail_ids, self.read_ids, self.answer_ids)


@pytest.fixture(scope="module")
def first_pair(checkpoint, golden, stages):
    """The pair whose stages are on record."""
    template, caption = QuestionTemplate(), golden["cases"][0]["texts"][0]
    head, tail, answer = (checkpoint.pieces.encode(text) for text in (template.head, template.tail(caption), "Yes"))
    read = [checkpoint.t5_arch.start_id, *answer[:-1].tolist()]
    ids = (torch.tensor([list(one)]) for one in (head, tail, read, answer))
    return Pair(torch.from_numpy(stages["pair0_projected"])[None], *ids)


def test_the_images_are_those_of_the_record(golden, images):
    digests = {name: hashlib.sha256(pixels.tobytes()).hexdigest() for name, pixels in images.items()}
    assert digests == {entry["name"]: entry["rgb_sha256"] for entry in golden["images"]}


def test_padded_pixels_are_bit_for_bit_the_authors(checkpoint, golden, images, stages):
    fill = mean_fill(checkpoint.tower_arch.mean)
    resized = [pad_square(images[entry["name"]], 56, fill) for entry in golden["images"]]
    np.testing.assert_array_equal(np.stack(resized), stages["preprocessed_uint8"])


def test_the_tower_gives_the_last_but_one_layer_without_its_class_token(image_graph, stages):
    seen = image_graph.embed(torch.from_numpy(stages["preprocessed_uint8"][:1]))
    np.testing.assert_allclose(seen[0], stages["pair0_vision_features"], atol=TOLERANCE, rtol=0)


def test_the_projector_uses_the_exact_gelu(image_graph, stages):
    # The tanh form would be off by about 1e-3 here.
    projected = image_graph.project(torch.from_numpy(stages["pair0_vision_features"])[None])
    np.testing.assert_allclose(projected[0], stages["pair0_projected"], atol=TOLERANCE, rtol=0)


def test_the_encoder_reads_head_image_and_tail(score_graph, first_pair, stages):
    joined = score_graph.join(first_pair.image_encodings, first_pair.head_ids, first_pair.tail_ids)
    np.testing.assert_allclose(joined[0], stages["pair0_encoder_input"], atol=1e-7, rtol=0)
    encoded = score_graph.encode(joined, score_graph.mask_padding(first_pair.tail_ids, first_pair.num_before))
    np.testing.assert_allclose(encoded[0], stages["pair0_encoder_output"], atol=TOLERANCE, rtol=0)


def test_the_folded_decoder_gives_the_authors_logits(score_graph, first_pair, stages):
    memory = torch.from_numpy(stages["pair0_encoder_output"])[None]
    bias = score_graph.mask_padding(first_pair.tail_ids, first_pair.num_before)
    logits = score_graph.vocabulary(score_graph.decode(first_pair.read_ids, memory, bias))
    np.testing.assert_allclose(logits[0], stages["pair0_decoder_logits"], atol=TOLERANCE, rtol=0)


def test_the_log_probabilities_are_those_of_the_record(score_graph, first_pair, golden, stages):
    answer, rival = first_pair.run(score_graph)
    np.testing.assert_allclose(answer[0], golden["pair0_logprobs_yes_eos"], atol=TOLERANCE, rtol=0)
    first = stages["pair0_decoder_logits"][0].astype(np.float64)
    expected = first[golden["answer_ids"]["No"][0]] - np.log(np.exp(first).sum())
    assert rival.item() == pytest.approx(expected, abs=TOLERANCE)


def test_padding_changes_nothing(score_graph, first_pair):
    alone, rival_alone = first_pair.run(score_graph)
    padded = {
        name: torch.nn.functional.pad(getattr(first_pair, name), (0, 13))
        for name in ("tail_ids", "read_ids", "answer_ids")
    }
    beside, rival_beside = replace(first_pair, **padded).run(score_graph)
    torch.testing.assert_close(beside[:, : alone.shape[1]], alone, atol=5e-6, rtol=0)
    torch.testing.assert_close(rival_beside, rival_alone, atol=5e-6, rtol=0)


def test_the_last_distance_bucket_holds_for_any_length(score_graph):
    bias = score_graph.encoder_bias(torch.arange(400))[0]
    assert torch.equal(bias[:, 0, 399], bias[:, 0, 128])
    assert torch.equal(bias[:, 399, 0], bias[:, 128, 0])
