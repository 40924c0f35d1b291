"""Periodic fields: a grid function together with the rule that gives its values between the grid points."""

import math

import numpy as np

from pde import _splines, checks, grid
from pde.transforms import both_halves, to_spectrum

__all__ = ["INTERPOLATIONS", "PeriodicField"]

INTERPOLATIONS = ("trigonometric", "bilinear", "bicubic")

# Points are evaluated in blocks, so that memory does not grow with their number (about 64 MB per block).
_BLOCK_ENTRIES = 2**22


class PeriodicField:
    """A field on the torus of period `length`, given on a grid and evaluated anywhere.

    trigonometric:      u(x) = sum_k c_k exp(2 pi i k . x / length)      exact for band-limited data
    bilinear, bicubic:  u(x) = sum_ij a_ij B(n x / length - i) B(n y / length - j)

    with B the B-spline of degree 1 (a = values) or 3 (a such that u interpolates the values; twice continuously
    differentiable, error O(n**-4)).

    Parameters
    ----------
    values : array_like of shape (..., n, n)
        Values at the points (i, j) * length / n: (n, n) a scalar, (2, n, n) a vector field, (n_t, 2, n, n) a stack.
    length : float, default=1.0
        Period.
    interpolation : {"trigonometric", "bilinear", "bicubic"}
        Rule between the grid points.

    Raises
    ------
    ValueError
        If the grid is not square, a value is not finite, length <= 0 or the rule is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(8) / 8
    >>> field = PeriodicField(np.sin(2 * np.pi * x)[:, None] * np.ones(8))
    >>> bool(abs(field([0.3, 0.7]) - np.sin(2 * np.pi * 0.3)) < 1e-14)
    True
    """

    def __init__(self, values, length=1.0, interpolation="trigonometric"):
        # A copy: the caller's array stays writeable, and what is written there does not reach the field.
        self.values = checks.finite_array("values", values).copy()
        if self.values.ndim < 2 or self.values.shape[-1] != self.values.shape[-2] or not self.values.size:
            raise ValueError(f"values must have shape (..., n, n) with a square grid, got {self.values.shape}")
        self.length = checks.real("length", length, positive=True)
        self.interpolation = checks.one_of("interpolation", interpolation, INTERPOLATIONS)
        self.values.flags.writeable = False

    def __reduce__(self):
        # Copies and pickles are made anew, so that their values are frozen too.
        return PeriodicField, (self.values, self.length, self.interpolation)

    def __repr__(self):
        return f"PeriodicField(shape={self.values.shape}, length={self.length:g}, {self.interpolation})"

    @property
    def n(self):
        """Points per side of the grid."""
        return self.values.shape[-1]

    @property
    def n_modes(self):
        """Largest |k_i| of the trigonometric interpolant that is not rounding error."""
        return self._cached("_n_modes", self._count_modes)

    def _count_modes(self):
        n = self.n
        size = np.abs(self._half).reshape(-1, n, n // 2 + 1).max(axis=0)
        if n % 2 == 0:
            # Shared between n/2 and -n/2.
            size[n // 2] *= 0.5
            size[:, -1] *= 0.5
        # FFT rounding leaves about eps in absent modes.
        present = size > 4 * np.finfo(float).eps * size.max()
        rows = np.flatnonzero(present.any(axis=1))
        return int(max(np.minimum(rows, n - rows).max(initial=0), np.flatnonzero(present.any(axis=0)).max(initial=0)))

    @property
    def _half(self):
        """The coefficients of the modes k_2 >= 0, as `to_spectrum` has them."""
        return self._cached("_spectrum", lambda: to_spectrum(self.values))

    @property
    def _present_coefficients(self):
        """The coefficients of the modes |k_i| <= n_modes."""
        return self._cached("_c", lambda: both_halves(self._half, self.n, self.n_modes))

    @property
    def spline_coefficients(self):
        """The a_ij of the B-spline form, shape (..., n, n): the values (bilinear) or their periodic prefilter."""
        if self.interpolation == "bilinear":
            return self.values
        return self._cached("_a", lambda: _splines.cubic_prefilter(self.values))

    def _cached(self, name, make):
        if name not in self.__dict__:
            self.__dict__[name] = make()
        return self.__dict__[name]

    def fourier_coefficients(self, n_modes):
        """Return the exact c_k, |k_i| <= n_modes, of u = sum_k c_k exp(2 pi i k . x / length), as `grid.coefficients`.

        Splines: c_k = n**-2 sum_ij a_ij exp(-2 pi i k . (i, j) / n) s(k_1) s(k_2), s(k) = sinc(k / n)**p
        with p = 2 (bilinear) or 4 (bicubic): shape (..., 2 n_modes + 1, 2 n_modes + 1).
        """
        n_modes = checks.integer("n_modes", n_modes, at_least=0)
        if self.interpolation == "trigonometric":
            return both_halves(self._half, self.n, n_modes)
        power = 2 if self.interpolation == "bilinear" else 4
        return _splines.fourier_coefficients(self.spline_coefficients, power, n_modes)

    def band_limited(self, n_modes):
        """Return the part of the field with the modes |k_i| <= n_modes, as a trigonometric field.

        A trigonometric field that has no others is returned itself.
        """
        n_modes = checks.integer("n_modes", n_modes, at_least=0)
        if self.interpolation == "trigonometric" and self.n_modes <= n_modes:
            return self
        return PeriodicField(grid.from_coefficients(self.fourier_coefficients(n_modes), 2 * n_modes + 1), self.length)

    def with_interpolation(self, interpolation):
        """Return the field with the same grid values and another rule between them, as in the constructor."""
        return PeriodicField(self.values, self.length, interpolation)

    def __call__(self, points):
        """Evaluate the field at points of shape (..., 2) in the plane: shape (...) + values.shape[:-2]."""
        return self._evaluate(points, derivative=None)

    def jacobian(self, points):
        """Evaluate J[..., a, b] = d u_a / d x_b at points of shape (..., 2): shape (...) + values.shape[:-2] + (2,).

        Between cells a bilinear field has two one-sided derivatives; the one towards larger coordinates is returned.
        """
        return np.stack([self._evaluate(points, derivative=axis) for axis in (0, 1)], axis=-1)

    def on_grid(self, n):
        """Evaluate the field on the points of the grid of n per side: shape (..., n, n), laid out like `values`."""
        n = checks.integer("n", n, at_least=1)
        if self.n % n == 0:
            step = self.n // n
            return self.values[..., ::step, ::step].copy()
        if self.interpolation == "trigonometric":
            return grid.from_coefficients(self._present_coefficients, n)
        # The stencil is a product of the same 1-D rule along x and along y.
        rule = self._grid_matrix(n)
        return rule @ self.spline_coefficients @ rule.T

    def sup_norm(self, n=None):
        """Return max |u(x)|, Euclidean in the components, over the points of a grid of n per side.

        By default these are the field's own points for a bilinear field, where the maximum is attained, and four times
        as many otherwise: the maximum over all x is then larger by a factor of at most 1 / cos(pi / 8)**2 < 1.18
        (trigonometric; and of 1.0016 if n_modes <= n / 20).
        """
        refine = 1 if self.interpolation == "bilinear" else 4
        values = self.on_grid(refine * self.n if n is None else n)
        sizes = np.abs(values) if self.values.ndim == 2 else _splines.lengths(values, axis=-3)
        return float(sizes.max())

    def jacobian_sup_norm(self, n=None):
        """Return max |grad u(x)|, the largest singular value of the Jacobian, over the points of a grid of n per side.

        By default four times the field's own. For a bilinear field n is not used: the maximum is attained at corners of
        the cells, with the derivatives from inside each cell.
        """
        if self.interpolation == "bilinear":
            columns = self._corner_slopes()
        else:
            jacobian = self.jacobian_on_grid(4 * self.n if n is None else n)
            columns = [jacobian[..., 0]], [jacobian[..., 1]]
        return _splines.largest_singular_value(*columns, self.values.ndim == 2)

    def _corner_slopes(self):
        """Derivatives of a bilinear field by x and by y, two of each that meet at the corners of its cells."""
        dx, dy = ((np.roll(self.values, -1, axis) - self.values) * (self.n / self.length) for axis in (-2, -1))
        return (dx, np.roll(dx, -1, -1)), (dy, np.roll(dy, -1, -2))

    def jacobian_on_grid(self, n):
        """Evaluate the derivatives on the grid of n per side: shape (..., n, n, 2), last the direction."""
        n = checks.integer("n", n, at_least=1)
        if self.interpolation == "trigonometric":
            c, factor = self._present_coefficients, self._wavenumbers * 1j
            parts = (c * factor[:, None], c * factor[None, :])
            return np.stack([grid.from_coefficients(part, n) for part in parts], axis=-1)
        value, slope = self._grid_matrix(n), self._grid_matrix(n, derivative=True)
        a = self.spline_coefficients
        return np.stack([slope @ a @ value.T, value @ a @ slope.T], axis=-1)

    @property
    def _wavenumbers(self):
        return np.arange(-self.n_modes, self.n_modes + 1) * (2 * np.pi / self.length)

    def _grid_matrix(self, n, derivative=False):
        """Dense (n, self.n) matrix of the 1-D spline rule at the points i * length / n."""
        first, weights = self._stencil(np.arange(n) * (self.length / n), derivative)
        rule = np.zeros((n, self.n))
        for offset in range(weights.shape[-1]):
            np.add.at(rule, (np.arange(n), (first + offset) % self.n), weights[:, offset])
        return rule

    def _stencil(self, x, derivative):
        """First index and weights (..., degree + 1) of the B-spline rule at coordinates x."""
        scaled = np.mod(x / self.length, 1.0) * self.n
        cell = np.floor(scaled).astype(np.intp)
        degree = 1 if self.interpolation == "bilinear" else 3
        weights = _splines.bspline_weights(scaled - cell, degree, derivative)
        if derivative:
            weights = weights * (self.n / self.length)
        return cell - degree // 2, weights

    def _evaluate(self, points, derivative):
        points = checks.points_array(points)
        flat = points.reshape(-1, 2)
        components = self.values.shape[:-2]
        evaluate = self._trigonometric if self.interpolation == "trigonometric" else self._spline
        block = max(1, _BLOCK_ENTRIES // (self.n * max(1, math.prod(components))))
        out = np.empty((len(flat), *components))
        for start in range(0, len(flat), block):
            out[start : start + block] = evaluate(flat[start : start + block], derivative)
        return out.reshape(points.shape[:-1] + components)

    def _trigonometric(self, flat, derivative):
        size = 2 * self.n_modes + 1
        # Phases of points far away would lose digits; those of the cells around the origin keep their bits.
        flat = np.where(np.abs(flat) > 8 * self.length, np.fmod(flat, self.length), flat)
        c, k = self._present_coefficients.reshape(-1, size, size), self._wavenumbers
        waves = [np.exp(1j * np.multiply.outer(flat[:, axis], k)) for axis in (0, 1)]
        if derivative is not None:
            waves[derivative] = waves[derivative] * (1j * k)
        columns = [np.einsum("ml,ml->m", waves[0] @ component, waves[1]).real for component in c]
        return np.stack(columns, axis=-1).reshape(len(flat), *self.values.shape[:-2])

    def _spline(self, flat, derivative):
        (ix, wx), (iy, wy) = (self._stencil(flat[:, axis], derivative == axis) for axis in (0, 1))
        a = np.moveaxis(self.spline_coefficients.reshape(-1, self.n, self.n), 0, -1)
        total = 0.0
        for p in range(wx.shape[-1]):
            for q in range(wy.shape[-1]):
                total = total + (wx[:, p] * wy[:, q])[:, None] * a[(ix + p) % self.n, (iy + q) % self.n]
        return total.reshape(len(flat), *self.values.shape[:-2])
