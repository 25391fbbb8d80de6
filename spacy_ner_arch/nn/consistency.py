"""Consistency of the predictions for two copies of a document, which differ by dropout (R-Drop)."""

from torch import Tensor


def divergence(scores: Tensor, expected: Tensor, copies: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences between each item and its copy, summed over the items with a copy.

    In a family of distributions p ~ exp(score) the log partitions cancel:

        KL(p, q) + KL(q, p) = sum over k of (E_p[k] - E_q[k]) (score_p[k] - score_q[k])

    scores: (M, K) scores of the items, such as the logits of a softmax.
    expected: (M, K) how often k is expected under the scores: the probabilities of a softmax, the marginals of a chain.
    copies: (M,) int64, row of the same item in the other copy; its own for an item without a copy.
    Source: Liang et al. 2021 (R-Drop).
    """
    difference = scores - scores.index_select(0, copies)
    # Each two copies are in this sum twice.
    return (difference * (expected - expected.index_select(0, copies))).sum() / 4
