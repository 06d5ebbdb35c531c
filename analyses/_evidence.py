"""How much of each valid answer a picture shows.

At the first step the best x̂0 is the mean over all videos that fit, so where k answers fit it is their mixture:
in different places (multi-path) or at one place (superposition). The evidence is the recipe of that mixture:
the weights, none below zero, with which what each answer changes adds up to what x̂0 changes.

Shapes: k answers, F frames, H×W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

SHOWN: float = 0.15
"""Evidence from which on a candidate counts as shown."""


def candidate_evidence(
    video: NDArray[np.uint8], first_frame: NDArray[np.uint8], answers: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Evidence of each valid answer in a video, most often x̂0 of one step.

    Weights w ≥ 0 that minimise ‖(video - first) - Σ_a w_a (answer_a - first)‖ over all pixels, colours as 0-1. An
    answer's own true video gives it 1 and the others 0; the mean of k true videos gives each 1/k; the still first
    frame gives 0 to all. What fits no answer (noise, grey) is left over and counts for none.

    Args:
        video: uint8 `[F, H, W, 3]`.
        first_frame: uint8 `[H, W, 3]`.
        answers: True videos of the valid answers, uint8 `[k, F, H, W, 3]`, which differ from one another.

    Returns:
        float64 `[k]`, most often 0 to 1.

    Source: SCIENCE.md, "Ground truth"; the mixture at σ = 1 is the posterior mean of flow matching.
    """
    base = first_frame.astype(np.float32)[None] / 255
    seen = (video.astype(np.float32) / 255 - base).ravel()
    changes = (answers.astype(np.float32) / 255 - base[None]).reshape(len(answers), -1)
    # Normal equations: k is small and the number of pixels is not.
    gram = changes.astype(np.float64) @ changes.T.astype(np.float64)
    factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    weights, _ = nnls(factor.T, np.linalg.solve(factor, changes.astype(np.float64) @ seen.astype(np.float64)))
    return weights


def effective_number(evidence: NDArray[np.float64]) -> float:
    """Number of candidates that share the evidence: exp of the entropy, 0 where there is no evidence.

    Args:
        evidence: float64 `[k]`, not negative.
    """
    total = evidence.sum()
    if total <= 0:
        return 0.0
    share = evidence[evidence > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))
