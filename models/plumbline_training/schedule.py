"""The learning rate and the optimizer that the training programs share."""

import torch
from torch import nn

WARM_UP_STEPS, DECAYED_SHARE = 60, 0.35
WEIGHT_DECAY = 0.02
LOWEST = 0.01  # of the peak


def rate_at(step: int, num_steps: int, peak: float) -> float:
    """Learning rate: a warm-up, a plateau, and a linear fall over the last third."""
    fall_from = num_steps * (1 - DECAYED_SHARE)
    falling = (num_steps - step) / max(1.0, num_steps - fall_from)
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS, max(LOWEST, falling))


def new_optimizers(module: nn.Module, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of transformer blocks, AdamW for everything else.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. It takes about half the steps here.
    """
    hidden: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2 or "embedding" in name:  # noqa: PLR2004
            others.append(parameter)
        else:
            (hidden if "resblocks" in name and parameter.ndim == 2 else matrices).append(parameter)  # noqa: PLR2004
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))]
    if hidden:
        muon = torch.optim.Muon(hidden, lr=peak, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        optimizers.append(muon)
    return optimizers


def take_step(module: nn.Module, optimizers: list[torch.optim.Optimizer], loss: torch.Tensor, rate: float) -> None:
    """One step of gradient descent at that rate, with the gradient cut to norm 1."""
    module.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
