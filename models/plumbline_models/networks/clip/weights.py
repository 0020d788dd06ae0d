"""The tensors of a CLIP that a configuration names, read and checked against its architecture."""

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.clip.activations import doubt_activation
from plumbline_models.networks.clip.hugging_face import is_hugging_face, stated_activation
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.state_dicts import ClipTensors, sort_tensors
from plumbline_models.weights.loading import read_tensors

_QUICK = "quick_gelu"


def load_clip(spec: ClipSpec) -> ClipTensors:
    """Fetch, check and read the weights.

    Raises:
        CheckpointError: They cannot be had, are not those that the configuration means, would run code, or are
            no CLIP; or they state an activation that the architecture does not compute.
    """
    file = spec.fetch()
    tensors = read_tensors(file)
    doubt_activation(tensors, weights=spec.weights, arch=spec.arch, source=spec.source)
    stated = stated_activation(file) if is_hugging_face(tensors) else None
    if stated is not None and (stated == _QUICK) != spec.arch.has_quick_gelu:
        raise StateDictError(
            f"The checkpoint was trained with {stated}, which {spec.arch.name} does not compute: "
            f"use the architecture {'with' if stated == _QUICK else 'without'} -quickgelu in its name.",
            path=str(file),
        )
    return sort_tensors(tensors)
