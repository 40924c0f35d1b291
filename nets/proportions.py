"""Standard errors of a proportion, the share of n images that are right, and of a mean difference on n images.

    stderr = sqrt(p (1 - p) / n)             0 < p < 1
    stderr = (1 - 0.05**(1 / n)) / 2         p = 0 or 1: about 1.5 / n                     (Clopper & Pearson 1934)

None or all of n images do not show that every image is like them. The share of the others may be q as long as n images
show none of them with a probability of 5 %, (1 - q)**n = 0.05, and the second line is q / 2. So it is with
differences of which all n are equal: a share q of all images may have others, larger or smaller by 1 at most.
"""

import math
import statistics

__all__ = ["binomial_stderr", "paired_stderr", "pooled"]

# Of none or all of n, two standard errors reach the exact limit at this confidence.
CONFIDENCE = 0.95
# Means of a few shares of 1 are equal within this.
ROUNDING = 1e-12


def binomial_stderr(p, n):
    """Return the standard error of a proportion p in [0, 1] of n >= 1 independent images.

    >>> binomial_stderr(0.5, 4), round(binomial_stderr(0.0, 300), 4)
    (0.25, 0.005)
    """
    variance = p * (1 - p) / n
    return math.sqrt(variance) if variance > 0 else -math.expm1(math.log1p(-CONFIDENCE) / n) / 2


def paired_stderr(differences):
    """Return the standard error of the mean of n >= 2 differences of shares, of shape (n,), one per image.

    >>> import torch
    >>> paired_stderr(torch.tensor([1.0, 0.0, 0.0, 0.0])), round(paired_stderr(torch.zeros(300)), 4)
    (0.25, 0.005)
    """
    differences, n = differences.double(), len(differences)
    if (differences.amax() - differences.amin()).item() <= ROUNDING:
        return binomial_stderr(0.0, n)
    return math.sqrt(differences.var().item() / n)


def pooled(accuracies, stderrs, n):
    """Return the mean accuracy of K >= 1 networks on the same n images, and its standard error.

    stderr**2 = p (1 - p) / n + s**2 / K, s**2 the variance of the K accuracies; of one network, its own.

    >>> accuracy, stderr = pooled([0.4, 0.6], [0.049, 0.049], 100)
    >>> accuracy, round(stderr**2, 6)  # 0.5 * 0.5 / 100 + 0.02 / 2
    (0.5, 0.0125)
    """
    p, k = sum(accuracies) / len(accuracies), len(accuracies)
    if k == 1:
        # A record of an older version has 0 for none or all of n images.
        return p, stderrs[0] or binomial_stderr(p, n)
    return p, math.hypot(binomial_stderr(p, n), math.sqrt(statistics.variance(accuracies) / k))
