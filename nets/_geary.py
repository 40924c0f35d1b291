"""How similar neighbouring weights are: Geary's ratio, of the taps of a kernel and of the picture of a layer.

    C = mean over neighbours of (w_p - w_q)**2 / (2 s**2),   s**2 = sum_p (w_p - mean)**2 / (n - 1)

p and q are neighbours if one is beside or above the other. E C = 1 for independent weights of one distribution: given
the n values, all orders are equally likely, so (w_p, w_q) is a pair drawn without replacement, and

    E (w_p - w_q)**2 = sum_(p, q) (w_p - w_q)**2 / (n (n - 1)) = 2 s**2

C = 0 where neighbours are equal, C > 1 where they differ more than weights drawn at random from the layer.

Kernels are not continued periodically: in a periodic row of three taps, all taps would be neighbours, and C would not
depend on their order. The order of channels is arbitrary, since permuting them gives the same network. C of kernels
therefore measures how smooth a convolution is; C of the picture, in which channels are side by side, measures how
smooth the picture looks.

References
----------
.. [1] Geary 1954, The contiguity ratio and statistical mapping.
"""

import numpy as np

__all__ = ["picture", "smoothness"]


def smoothness(values):
    """Return Geary's ratio C of values (..., height, width), with neighbours on the last two axes.

    None if it is undefined: there are no neighbours, as in kernels with one tap, or all values are equal.

    >>> smoothness([[1.0, 1.0], [0.0, 0.0]])
    0.75
    >>> smoothness(np.ones((16, 3, 1, 1))) is None
    True
    """
    values = np.asarray(values, dtype=float)
    if values.ndim < 2:
        raise ValueError(f"values must have shape (..., height, width), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    squares = np.concatenate([(np.diff(values, axis=axis) ** 2).ravel() for axis in (-1, -2)])
    if not squares.size or np.ptp(values) == 0:
        return None
    return float(squares.mean() / (2 * values.var(ddof=1)))


def picture(weight):
    """Arrange weights (n_out, n_in, h, w) or (n_out, n_in) as one picture (n_out h, n_in w) of all kernels.

    picture[i h + a, j w + b] = weight[i, j, a, b]                                           (paper: Figures 8 and 9)

    >>> picture(np.zeros((64, 32, 3, 3))).shape
    (192, 96)
    """
    weight = np.asarray(weight)
    if weight.ndim not in (2, 4):
        raise ValueError(f"weight must have shape (n_out, n_in, h, w) or (n_out, n_in), got {weight.shape}")
    n_out, n_in, height, width = weight.shape + (1, 1) * (weight.ndim == 2)
    kernels = weight.reshape(n_out, n_in, height, width)
    return kernels.transpose(0, 2, 1, 3).reshape(n_out * height, n_in * width)
