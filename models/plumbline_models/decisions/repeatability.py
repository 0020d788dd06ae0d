"""How far a decision is repeated when the same thing is submitted again.

pass@k: the probability that at least one of k submissions passes, of n that were made, c of which passed, without bias:
1 - C(n - c, k) / C(n, k) (Chen et al., "Evaluating Large Language Models Trained on Code", arXiv:2107.03374, 2.1).
pass^k: that all k pass, without bias: C(c, k) / C(n, k). Others take (c / n)^k for it, which is too high for k above 1
wherever some fail (`plug_in_pass_hat_k`): it draws the same submission more than once.
"""

from collections.abc import Sequence
from math import comb

from plumbline_models.decisions.fields import invalid


def pass_at_k(n: int, passed: int, k: int) -> float:
    """The probability that at least one of k submissions passes.

    Args:
        n: Submissions made.
        passed: Of these.
        k: 1 to n.

    Raises:
        InvalidFieldError: The numbers do not fit.
    """
    _check(n, passed, k)
    return 1 - comb(n - passed, k) / comb(n, k)


def pass_hat_k(n: int, passed: int, k: int) -> float:
    """The probability that all of k submissions pass; see `pass_at_k`."""
    _check(n, passed, k)
    return comb(passed, k) / comb(n, k)


def plug_in_pass_hat_k(n: int, passed: int, k: int) -> float:
    """What others call pass^k: (passed / n)^k; see `pass_at_k`."""
    _check(n, passed, k)
    return float((passed / n) ** k)


def flip_rate(decisions: Sequence[Sequence[bool]]) -> float:
    """The share of things whose submissions were not all decided alike.

    Args:
        decisions: Of each thing, of its submissions: one thing or more, of one submission or more.
    """
    return sum(len(set(each)) > 1 for each in decisions) / len(decisions)


def _check(n: int, passed: int, k: int) -> None:
    if not 1 <= k <= n:
        raise invalid("/k", "is not between 1 and the number of submissions")
    if not 0 <= passed <= n:
        raise invalid("/passed", "is not between 0 and the number of submissions")
