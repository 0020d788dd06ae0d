"""Rows of unit length."""

import torch
from torch import Tensor


def unit_norm(rows: Tensor) -> Tensor:
    """Divide each row by its length, in float32; a row of zeros stays one."""
    rows = rows.to(torch.float32)
    length = torch.sqrt((rows * rows).sum(dim=-1, keepdim=True))
    return rows / torch.clamp(length, min=1e-12)
