"""The text tower behind a shared prefix, with traces of its last blocks at the end-of-text token."""

import torch
from torch import Tensor, nn

from plumbline_models.networks.attribution.traced_layers import Trace, TracedBlock, leave
from plumbline_models.networks.clip.text_tower import TextTower, causal_mask, end_of_text


class TracedTower(nn.Module):
    """Captions behind one prefix; letters as in `traced_layers`.

    Args:
        tower: The tower, with its weights.
        prefix: Token ids that every caption begins with, start-of-text first; may be empty.
        num_traced: How many of the last blocks leave a trace, at least 1.
    """

    def __init__(self, tower: TextTower, prefix: Tensor, num_traced: int) -> None:
        super().__init__()
        self.num_prefix = len(prefix)
        self.num_traced = num_traced
        self.token_embedding = tower.token_embedding
        self.positions = nn.Parameter(tower.positional_embedding[self.num_prefix :].detach().clone())
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        self.blocks = nn.ModuleList(_behind_prefix(tower, prefix))

    def forward(self, token_ids: Tensor) -> tuple[Tensor, list[Trace]]:
        """Run the tower.

        Args:
            token_ids: `[T, L]` int64, what follows the prefix, zero-padded on the right.

        Returns:
            `[T, W]` that leaves the last block at the end of each text, and the traces, last block first.
        """
        tokens = self.token_embedding(token_ids) + self.positions[: token_ids.shape[1]]
        end = end_of_text(token_ids, tokens)
        mask, forbidden = self._masks(end)
        untraced = len(self.blocks) - self.num_traced
        traces: list[Trace] = []
        for index, block in enumerate(self.blocks):
            if index >= untraced:
                traces.insert(0, block.trace(tokens, end, forbidden))  # type: ignore[operator]  # a TracedBlock
            if index < len(self.blocks) - 1:
                tokens = block(tokens, mask)
        return leave(traces[0]), traces

    def project(self, tokens: Tensor) -> Tensor:
        """Last norm and projection, `[T, W]` to `[T, D]`."""
        return torch.matmul(self.ln_final(tokens), self.text_projection)

    def _masks(self, end: Tensor) -> tuple[Tensor, Tensor]:
        """`[L, J]`, what each token may not read, and `[T, J]`, what the end of each text may not read."""
        length = end.shape[1]
        later = causal_mask(length, end)
        behind = torch.matmul(end, later)
        prefix = torch.zeros(1, self.num_prefix, dtype=end.dtype, device=end.device)
        return (
            torch.cat([prefix.expand(length, -1), later], dim=1),
            torch.cat([prefix.expand(end.shape[0], -1), behind], dim=1),
        )


@torch.no_grad()
def _behind_prefix(tower: TextTower, prefix: Tensor) -> list[TracedBlock]:
    """The tower's blocks, each with the prefix's keys and values computed."""
    tokens = tower.token_embedding(prefix) + tower.positional_embedding[: len(prefix)]
    mask = causal_mask(len(prefix), tokens)
    blocks = []
    for block in tower.blocks:
        blocks.append(TracedBlock(block, tokens))
        if len(prefix):
            tokens = block(tokens[None], mask)[0]
    return blocks
