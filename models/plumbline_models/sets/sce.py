"""Schur Complement Entropy: what of a set's diversity comes from the generator, and what from its prompts.

Ospanov, Jalali, Farnia, "Dissecting CLIP: Decomposition with a Schur Complement-based Approach", arXiv:2412.18645. Of
the joint covariance of texts t and images i, the part of the images that texts explain is P = C_it C_tt^+ C_ti, and the
rest is the Schur complement S = C_ii - P. The score of a part with eigenvalues l and trace T is exp(-sum l log(l / T)).

We differ from the authors' program: encodings have unit length and covariances are linear; and where it inverts C_tt
with a ridge of 1e-12, which keeps directions alive that repeated prompts do not have, eigenvalues below 1e-10 of the
largest are none. S is computed as the covariance of what is left of the images once they are projected off the texts
(over the samples), which is the same, needs no inverse, and cannot become negative.

The fit to texts takes up as many directions as the texts have. With as many samples as directions it is perfect, and
the generator's part is 1 whatever the images are. So `samples_per_direction` comes with the score, which below
`RELIABLE` is not one; `corrected` gives the trace back that the fit took, by its degrees of freedom: it is ours and not
the paper's.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.sets.vectors import Floats, Matrix, StillWanted, always_wanted

RELIABLE: Final = 8.0
"""Samples per direction of the texts. In a simulation whose limit was 5.0, 4 gave 3.3, 16 gave 4.6."""
_CUTOFF: Final = 1e-10  # of the largest eigenvalue: directions below it are not there
_LEAST: Final = 1e-10  # smaller eigenvalues do not count; the authors' program counts them as so much


@dataclass(frozen=True, slots=True)
class Sce:
    """Both parts of a set's diversity."""

    image: float
    """The generator's: exp(trace * entropy) of what texts do not explain; at least 1."""
    text: float
    """The prompts': the same of what they explain."""
    corrected: float | None
    """`image` with its trace divided by 1 - rank / n; None where the fit leaves nothing."""
    image_share: float
    """Of the images' trace, what texts do not explain; 0 to 1."""
    samples_per_direction: float
    """n / rank of the texts."""
    reliable: bool
    """Whether these are at least `RELIABLE`."""


def sce(texts: Matrix, images: Matrix, *, still_wanted: StillWanted = always_wanted) -> Sce:
    """The scores of pairs of a text and an image.

    Args:
        texts: `[N, T]` features, row i belonging to image i.
        images: `[N, D]` features.
        still_wanted: Called between the decompositions.
    """
    num = len(images)
    basis = _basis(texts)
    rank = basis.shape[1]
    still_wanted()
    explained = basis.T @ images
    rest = images - basis @ explained
    still_wanted()
    rest_spectrum, text_spectrum = _spectrum(rest, num), _spectrum(explained, num)
    trace = float(rest_spectrum.sum())
    whole = trace + float(text_spectrum.sum())
    score = _score(rest_spectrum)
    return Sce(
        image=score,
        text=_score(text_spectrum),
        corrected=float(score ** (1 / (1 - rank / num))) if rank < num else None,
        image_share=trace / whole if whole > 0 else 0.0,
        samples_per_direction=num / rank,
        reliable=num / rank >= RELIABLE,
    )


def _basis(texts: Matrix) -> Matrix:
    """Orthonormal columns `[N, rank]` over the samples that span what texts can explain.

    Prompts repeat, and what they span is found among the different ones, each weighed by how often it is there.
    """
    distinct, which, counts = np.unique(texts, axis=0, return_inverse=True, return_counts=True)
    weights = np.sqrt(counts)[:, None]
    columns, singular, _ = np.linalg.svd(distinct * weights, full_matrices=False)
    kept = singular**2 > _CUTOFF * singular[0] ** 2
    basis: Matrix = (columns[:, kept] / weights)[which.reshape(-1)]
    return basis


def _spectrum(rows: Matrix, num: int) -> Floats:
    small = rows.T @ rows if rows.shape[1] < rows.shape[0] else rows @ rows.T
    found: Floats = np.maximum(np.linalg.eigvalsh(small / num), 0.0)
    return found


def _score(spectrum: Floats) -> float:
    """exp(trace * entropy): the eigenvalues are not those of a whole, and keep their trace."""
    present = spectrum[spectrum > _LEAST]
    return float(np.exp(-np.sum(present * np.log(present / present.sum()))))
