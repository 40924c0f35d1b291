"""How close neighbouring weights are to each other: Geary's ratio, of the taps of a kernel and of a picture of a layer.

    C = mean over neighbours of (w_p - w_q)**2 / (2 s**2),   s**2 = sum_p (w_p - mean)**2 / (n - 1)

p and q are neighbours if one stands beside or above the other. E C = 1 for independent weights of one law, whatever it
is: given the n values, every order of them is equally likely, so (w_p, w_q) is a pair drawn without replacement, and

    E (w_p - w_q)**2 = sum_(p, q) (w_p - w_q)**2 / (n (n - 1)) = 2 s**2

C = 0 where neighbours are equal, C > 1 where they differ more than weights drawn at random from the layer.

A kernel's border is one. In a periodic row of three taps every tap would be the neighbour of every other, and C would
not know of places. The order of channels is arbitrary, too: the network that permutes them is the same network. So C
of kernels says how smooth a convolution is; that of the picture, where channels stand side by side, sees in addition
only what a reader of the picture sees.

References
----------
.. [1] Geary 1954, The contiguity ratio and statistical mapping.
"""

import numpy as np

__all__ = ["picture", "smoothness"]


def smoothness(values):
    """Compare neighbouring weights with weights of the layer drawn at random.

    C = mean over neighbours of (w_p - w_q)**2 / (2 s**2)

    Parameters
    ----------
    values : array_like of shape (..., height, width)
        Kernels; neighbours are looked for on the last two axes. The variance s**2 is that of all of them.

    Returns
    -------
    float or None
        C >= 0; 1 is expected of independent weights. None where it has no meaning: there are no neighbours, as in
        kernels of one tap, or all weights are equal.

    Raises
    ------
    ValueError
        If there are fewer than two axes, or a number is not finite.

    Examples
    --------
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
    """Lay a layer's kernels out as one picture: a row of kernels for each output, a column for each input.

    picture[i h + a, j w + b] = weight[i, j, a, b]                                           (paper: Figures 8 and 9)

    Parameters
    ----------
    weight : array_like of shape (n_out, n_in, h, w) or (n_out, n_in)
        Of a convolution or a linear layer.

    Returns
    -------
    ndarray of shape (n_out * h, n_in * w)

    Raises
    ------
    ValueError
        If weight has another number of axes.

    Examples
    --------
    >>> picture(np.zeros((64, 32, 3, 3))).shape
    (192, 96)
    """
    weight = np.asarray(weight)
    if weight.ndim not in (2, 4):
        raise ValueError(f"weight must have shape (n_out, n_in, h, w) or (n_out, n_in), got {weight.shape}")
    n_out, n_in, height, width = weight.shape + (1, 1) * (weight.ndim == 2)
    kernels = weight.reshape(n_out, n_in, height, width)
    return kernels.transpose(0, 2, 1, 3).reshape(n_out * height, n_in * width)
