"""Counts, means and covariances of samples, merged batch by batch, and warnings of events too rare for the samples."""

import warnings

import numpy as np
import scipy.special

# With fewer samples than this on the rarer side of a two-valued result, its error is far from normal.
_FEWEST_HITS = 10
# With fewer samples than this, a smooth result looks two-valued by chance, and Student's quantiles are wide anyway.
_ENOUGH_TO_TELL = 100
# For means below _TINY, a standard error below _LOST may lack deviations whose squares underflow, _HIDDEN at most.
_TINY, _LOST, _HIDDEN = 1e-130, 1e-150, 1e-161


class Moments:
    """Count, means and sums of products of deviations of samples at every point.

    `mean` (n_variables, n_points); `products` of the same shape (squares alone) or, for covariances,
    (n_variables, n_variables, n_points). Merging batches of sizes p and q adds (p q / (p + q)) (gap of the means)**2
    to the squares (Chan, Golub & LeVeque 1983).
    """

    def __init__(self, mean, products, count=0):
        self.mean, self.products, self.count = mean, products, count

    @classmethod
    def joint(cls, n_variables, n_points):
        """Moments of joint samples, covariances included."""
        return cls(np.zeros((n_variables, n_points)), np.zeros((n_variables, n_variables, n_points)))

    def merge(self, count, mean, products):
        """Add the moments of a batch."""
        total = self.count + count
        # Overflow shows in the result, which is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            gap = mean - self.mean
            square = gap[:, None] * gap[None] if self.products.ndim > self.mean.ndim else gap**2
            self.products = self.products + products + square * (self.count * count / total)
            self.mean = self.mean + gap * (count / total)
        self.count = total

    def add(self, *samples):
        """Add a batch of joint samples, each variable's of shape (n_points, m)."""
        values = np.stack(samples)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean(axis=-1)
            deviations = values - mean[..., None]
            self.merge(values.shape[-1], mean, np.einsum("apm,bpm->abp", deviations, deviations))

    @property
    def covariance(self):
        """Sample covariances, in the shape of `products`; of at least two samples."""
        return self.products / (self.count - 1)

    @property
    def stderr(self):
        """Standard errors of the means; inf for a single sample. Without covariances."""
        if self.count == 1:
            return np.full_like(self.mean, np.inf)
        error = np.sqrt(self.covariance / self.count)
        # Squares smaller than the smallest number are lost: what they could hide is stated instead.
        lost = (error < _LOST) & (self.mean != 0) & (np.abs(self.mean) < _TINY)
        return np.where(lost, error + _HIDDEN, error)


def merge_neighbours(counts, means, squares):
    """Merge the moments of parts along their first axis, neighbours first: one count, means and sums of squares.

    counts (n_parts,), means and squares (n_parts, ...). The order is fixed, so that equal parts give equal bits.
    """
    counts = counts.reshape(-1, *[1] * (means.ndim - 1))
    while len(counts) > 1:
        even = len(counts) // 2 * 2
        pairs = Moments(means[:even:2], squares[:even:2], counts[:even:2])
        pairs.merge(counts[1:even:2], means[1:even:2], squares[1:even:2])
        counts = np.concatenate([pairs.count, counts[even:]])
        means = np.concatenate([pairs.mean, means[even:]])
        squares = np.concatenate([pairs.products, squares[even:]])
    return int(counts.flat[0]), means[0], squares[0]


def root_mean_square(values):
    """Root of the mean square of values of any size."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean((values / largest) ** 2)))


def standard_error(means, axis=0):
    """Standard error of the mean of independent `means` along an axis: scaled, since squares of tiny numbers are 0."""
    n = means.shape[axis]
    with np.errstate(over="ignore", invalid="ignore"):
        deviations = means - means.mean(axis=axis, keepdims=True)
        exponents = np.frexp(np.abs(deviations).max(axis=axis, keepdims=True, initial=0.0))[1]
        squares = np.ldexp(deviations, -exponents) ** 2
        error = np.sqrt(squares.sum(axis=axis) / ((n - 1) * n))
        return np.ldexp(error, exponents.squeeze(axis))


def quantile_factor(confidence, n_samples):
    """Standard errors that a two-sided interval of this confidence spans to each side: Student's t, n_samples - 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got confidence={confidence}")
    if n_samples < 2:
        return np.inf
    return float(scipy.special.stdtrit(n_samples - 1, (1 + confidence) / 2))


def student_variance(n_samples):
    """Variance of Student's t, n_samples - 1 degrees of freedom, by which squared standard errors are widened."""
    return (n_samples - 1) / (n_samples - 3)


def refuse_unless_finite(mean, stderr, n_samples):
    """Raise a FloatingPointError unless means are finite and standard errors known (inf for one sample)."""
    if not np.isfinite(mean).all():
        raise FloatingPointError("the estimate is not finite: check velocity and terminal data for overflow")
    if np.isnan(stderr).any() or (n_samples > 1 and not np.isfinite(stderr).all()):
        raise FloatingPointError(
            "the standard error is not finite though the mean is: squares of the terminal data overflow, scale them"
        )


def rare_points(mean, stderr, n_samples, lowest, highest, *, pairs=False):
    """Masks: where all samples agree, and where fewer than ten make up the mean of a nearly two-valued result.

    Antithetic pairs may agree by symmetry, but not at the end of the range.
    """
    size = highest - lowest
    share = (mean - lowest) / size
    # Weights by a potential may be larger.
    outside = np.abs(share - 0.5) > 0.51
    share = np.clip(share, 0.0, 1.0)
    rarer = np.minimum(share, 1 - share)
    agree = (stderr <= 1e-14 * max(abs(highest), abs(lowest))) & ((rarer < 1e-9) | (not pairs))
    # In units of the range: squares of large terminal data overflow.
    two_valued = (stderr / size) ** 2 * n_samples >= 0.5 * share * (1 - share)
    few = two_valued & (rarer < 0.1) & (rarer * n_samples < _FEWEST_HITS) & ~agree & ~outside
    return agree, few


def warn_if_rare(mean, stderr, n_samples, lowest, highest, *, pairs=False):
    """Warn where samples show (almost) none of the variation of terminal data between lowest and highest.

    All samples equal: another value may have a probability of 3 / n_samples (at 95 %). Few on the rarer side of a
    two-valued result: the mean's error is skewed, and its standard error uncertain.
    """
    if n_samples < 2 or not highest > lowest:
        return
    masks = rare_points(mean, stderr, n_samples, lowest, highest, pairs=pairs)
    silent, few = (int(mask.sum()) for mask in masks)
    if silent:
        warnings.warn(
            f"at {silent} of {mean.size} points all {n_samples} samples agree: stderr is 0 there, yet an event "
            f"that none of them hit may have a probability of {3 / n_samples:.1g} (at 95 %); take more paths, or a "
            "smoother terminal",
            RuntimeWarning,
            stacklevel=3,
        )
    elif few and n_samples >= _ENOUGH_TO_TELL:
        warnings.warn(
            f"at {few} of {mean.size} points fewer than {_FEWEST_HITS} of {n_samples} samples make up the mean: its "
            "error is skewed, and larger than stderr suggests on one side; take more paths",
            RuntimeWarning,
            stacklevel=3,
        )
