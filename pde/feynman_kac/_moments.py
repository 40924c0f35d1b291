"""Means and covariances of samples, merged batch by batch."""

import numpy as np

__all__ = ["Moments"]


class Moments:
    """Count, means and sums of products of deviations of joint samples at every point.

    Merging two batches of sizes p and q adds  (p q / (p + q)) (gap of the means)^2  to the sums of squares.

    Parameters
    ----------
    n_variables : int
        Numbers in a joint sample.
    n_points : int
        Points.

    References
    ----------
    .. [1] Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance.
    """

    def __init__(self, n_variables, n_points):
        self.count = 0
        self.mean = np.zeros((n_variables, n_points))
        self._products = np.zeros((n_variables, n_variables, n_points))

    def merge(self, *samples):
        """Add a batch.

        Parameters
        ----------
        *samples : ndarray of shape (n_points, m)
            m samples of each variable.
        """
        values = np.stack(samples)
        count = values.shape[-1]
        total = self.count + count
        # Overflow shows in the result, which is checked.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean(axis=-1)
            deviations = values - mean[..., None]
            gap = mean - self.mean
            self._products += np.einsum("apm,bpm->abp", deviations, deviations)
            self._products += gap[:, None] * gap[None] * (self.count * count / total)
            self.mean = self.mean + gap * (count / total)
        self.count = total

    @property
    def covariance(self):
        """Sample covariances, shape (n_variables, n_variables, n_points); of at least two samples."""
        return self._products / (self.count - 1)
