"""The graphs of a CLIP-FlanT5 as torch modules, filled with a checkpoint's tensors."""

from collections.abc import Iterator

import torch

from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.score_module import FlanT5Score
from plumbline_models.networks.flant5.states import image_state, score_state
from plumbline_models.networks.flant5.tower_module import FlanT5Image
from plumbline_models.networks.flant5.tower_state import Named


def build_image_graph(checkpoint: FlanT5Checkpoint) -> FlanT5Image:
    """The tower and projector with the checkpoint's weights, float32, in eval mode.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    with torch.device("meta"):  # no memory: the checkpoint's tensors take the place of the parameters
        graph = FlanT5Image(checkpoint.tower_arch)
    _fill(graph, image_state(checkpoint))
    return graph


def build_score_graph(checkpoint: FlanT5Checkpoint, rival_id: int) -> FlanT5Score:
    """The encoder and decoder with the checkpoint's weights, float32, in eval mode.

    Args:
        checkpoint: Whose weights.
        rival_id: First token of the answer to compare with.

    Raises:
        StateDictError: A tensor is missing or has the wrong shape.
    """
    with torch.device("meta"):
        graph = FlanT5Score(checkpoint.t5_arch, rival_id)
    _fill(graph, score_state(checkpoint))
    return graph


def _fill(graph: torch.nn.Module, state: Iterator[Named]) -> None:
    graph.load_state_dict({name: torch.from_numpy(array) for name, array in state}, assign=True)
    graph.requires_grad_(requires_grad=False).eval()
