"""The tensors of a CLIP that a configuration names, read and checked against its architecture."""

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.clip.activations import doubt_activation
from plumbline_models.networks.clip.adapters import merge_adapter
from plumbline_models.networks.clip.decomposed import recompose
from plumbline_models.networks.clip.hugging_face import is_hugging_face, stated_activation
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.state_dicts import ClipTensors, image_tensors, sort_tensors
from plumbline_models.weights.loading import read_tensors

_QUICK = "quick_gelu"


def load_clip(spec: ClipSpec) -> ClipTensors:
    """Fetch, check and read the weights.

    Raises:
        CheckpointError: They cannot be had, are not those that the configuration means, would run code, or are
            no CLIP; or they state an activation that the architecture does not compute.
    """
    file = spec.fetch()
    tensors: Mapping[str, Tensor] = recompose(read_tensors(file))
    if (adapter := spec.beside.adapter_file) is not None:
        tensors = merge_adapter(tensors, adapter)
    doubt_activation(tensors, weights=spec.weights, arch=spec.arch, source=spec.source)
    stated = stated_activation(file) if is_hugging_face(tensors) else None
    if stated is not None and (stated == _QUICK) != spec.arch.has_quick_gelu:
        raise StateDictError(
            f"The checkpoint was trained with {stated}, which {spec.arch.name} does not compute: "
            f"use the architecture {'with' if stated == _QUICK else 'without'} -quickgelu in its name.",
            path=str(file),
        )
    sorted_ = sort_tensors(tensors)
    image = spec.beside.image_file
    return (
        sorted_ if image is None else dataclasses.replace(sorted_, image=image_tensors(recompose(read_tensors(image))))
    )
