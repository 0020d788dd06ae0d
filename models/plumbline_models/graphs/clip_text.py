"""The graph `clip_text`: token ids to unit-norm text embeddings."""

from torch import Tensor, nn

from plumbline_models.graphs.unit_norm import unit_norm


class ClipText(nn.Module):
    """A text tower with its norm.

    Args:
        tower: CLIP's own, which takes any length, or one of open_clip's others, which takes the full context.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, token_ids: Tensor) -> Tensor:
        """`[N, L]` int64 to `[N, D]` float32 of unit norm."""
        made = self.tower(token_ids)
        return unit_norm(made[0] if isinstance(made, tuple | list) else made)
