"""Random problems in the plane, of which no closed form is known, with a reference by a second implementation.

The reference is the system of Fourier-Galerkin on more modes than the solver keeps, all of its products exact (4 K + 1
points or more), advanced by ETDRK4: nothing in common with the solver. Data and velocities enter by their exact
coefficients: Bessel functions of discs, powers of sincs of bilinear fields.
"""

import numpy as np
import scipy.fft
from scipy.special import j1

import pde


def draw(rng, largest=6):
    """(Name, problem, n, options, exact values on the grid of n, max |f|, error of these values)."""
    n = round(2 ** rng.uniform(3.5, min(largest, 6)))
    length, horizon = 10 ** rng.uniform(-1, 2), 10 ** rng.uniform(-2, 6)
    spread, size = 10 ** rng.uniform(-1.2, -0.2), 10 ** rng.uniform(-2, -0.2)
    unit = length / horizon
    base = {"sigma": spread * length / np.sqrt(horizon), "horizon": horizon, "length": length}
    kind = rng.choice(["smooth", "layers", "bilinear", "callable"])
    reference = Reference(max(30, round(0.75 * n)), spread**2 / 2)
    velocities, velocity = _velocity(rng, kind, size, unit, length, reference.k_max)
    name, terminal, c, sup_f = _terminal(rng, length, reference.k_max)
    problem = pde.ConvectionDiffusion(velocity, terminal, **base)
    exact, error = reference.solve(c, velocities, n)
    return f"plane, {kind}, {name}", problem, n, {"rtol": 10 ** rng.uniform(-10, -4)}, exact, sup_f, error


def _velocity(rng, kind, size, unit, length, k_max):
    """(Coefficients of the layers in units of the cell and T, up to 2 k_max; what the solver is given)."""
    if kind == "bilinear":
        m = int(rng.integers(5, 17))
        field = pde.PeriodicField(size * rng.uniform(-1, 1, (2, m, m)), 1.0, "bilinear")
        c = np.fft.fft2(field.values) / m**2
        k = np.arange(-2 * k_max, 2 * k_max + 1)
        s = np.sinc(k / m) ** 2
        return [c[:, k % m][:, :, k % m] * s[:, None] * s], pde.PeriodicField(unit * field.values, length, "bilinear")
    layers, values = [], []
    for _ in range(int(rng.integers(2, 4)) if kind == "layers" else 1):
        c = np.zeros((2, 4 * k_max + 1, 4 * k_max + 1), dtype=complex)
        modes = rng.integers(-3, 4, (6, 2))
        weights = size * (rng.standard_normal((6, 2)) + 1j * rng.standard_normal((6, 2))) / 6
        for mode, weight in zip(modes, weights, strict=True):
            c[:, 2 * k_max + mode[0], 2 * k_max + mode[1]] += weight
            c[:, 2 * k_max - mode[0], 2 * k_max - mode[1]] += np.conj(weight)
        layers.append(c)
        values.append((modes, weights))

    def at(x, modes, weights):
        phases = np.exp(2j * np.pi * (x[..., None, :] * modes).sum(axis=-1))
        return 2 * (phases[..., None] * weights).real.sum(axis=-2)

    if kind == "callable":
        return layers, lambda x, t: unit * at(x / length, *values[0]) + 0 * t
    x = np.stack(np.meshgrid(np.arange(8) / 8, np.arange(8) / 8, indexing="ij"), axis=-1)
    return layers, np.stack([unit * np.moveaxis(at(x, *pair), -1, 0) for pair in values])


def _terminal(rng, length, k_max):
    """(Name, f, its coefficients |k_i| <= k_max, max |f|)."""
    k = np.arange(-k_max, k_max + 1)
    if rng.random() < 0.5:
        radius, centre = rng.uniform(0.1, 0.4), rng.random(2)
        r = np.hypot(k[:, None], k)
        with np.errstate(invalid="ignore", divide="ignore"):
            c = np.where(r > 0, radius * j1(2 * np.pi * r * radius) / r, np.pi * radius**2)
        c = c * np.exp(-2j * np.pi * (k[:, None] * centre[0] + k * centre[1]))

        def disc(x):
            z = np.mod(x / length - centre + 0.5, 1) - 0.5
            return np.where(np.hypot(z[..., 0], z[..., 1]) < radius, 1.0, 0.0)

        return "disc", disc, c, 1.0
    m = int(rng.integers(4, 20))
    values = rng.uniform(-1, 1, (m, m))
    c, s = np.fft.fft2(values) / m**2, np.sinc(k / m) ** 2
    c = c[k % m][:, k % m] * np.outer(s, s)
    return "bilinear noise", pde.PeriodicField(values, length, "bilinear"), c, float(np.abs(values).max())


class Reference:
    """u_s = v . grad u + nu lap u on the modes |k_i| <= k_max, in units of the cell and of T, by ETDRK4."""

    def __init__(self, k_max, nu):
        self.k_max = k_max
        self._n = scipy.fft.next_fast_len(4 * k_max + 1, real=True)
        self._k1, self._k2 = np.arange(-k_max, k_max + 1)[:, None], np.arange(k_max + 1)
        self._decay = -nu * 4 * np.pi**2 * (self._k1**2 + self._k2**2)

    def _values(self, c):
        r = c.shape[-1] - 1
        full = np.zeros(c.shape[:-2] + (self._n, self._n // 2 + 1), dtype=complex)
        full[..., np.arange(-r, r + 1) % self._n, : r + 1] = c
        return scipy.fft.irfft2(full, s=(self._n, self._n), norm="forward")

    def solve(self, c, layers, n):
        """(Values on the grid of n after the layers, the last of which comes first; their error by halved steps)."""
        fine, coarse = (self._march(c, layers, n, n_steps // len(layers)) for n_steps in (240, 120))
        return fine, float(np.abs(fine - coarse).max())

    def _march(self, c, layers, n, n_steps):
        c = c[:, self.k_max :]
        for layer in layers[::-1]:
            v = self._values(layer[..., 2 * self.k_max :])
            c = self._etdrk4(c, v, 1 / (len(layers) * n_steps), n_steps)
        x = np.arange(n) / n
        left, right = np.exp(2j * np.pi * x[:, None] * self._k1[:, 0]), np.exp(2j * np.pi * self._k2[:, None] * x)
        weights = np.where(self._k2 > 0, 2, 1)
        return ((left @ (c * weights)) @ right).real

    def _product(self, w, v):
        slopes = self._values(np.stack([2j * np.pi * self._k1 * w, 2j * np.pi * self._k2 * w]))
        spectrum = scipy.fft.rfft2((v * slopes).sum(axis=0), norm="forward")
        return spectrum[self._k1[:, 0] % self._n, : self.k_max + 1]

    def _etdrk4(self, w, v, h, n_steps):
        """Cox & Matthews 2002, the coefficients as means over a circle (Kassam & Trefethen 2005)."""
        z = h * self._decay
        circle = z[..., None] + np.exp(1j * np.pi * (np.arange(16) + 0.5) / 16)
        e = np.exp(circle)
        mean = lambda values: h * values.mean(axis=-1).real  # noqa: E731
        q = mean((np.exp(circle / 2) - 1) / circle)
        f1 = mean((-4 - circle + e * (4 - 3 * circle + circle**2)) / circle**3)
        f2 = mean((2 + circle + e * (circle - 2)) / circle**3)
        f3 = mean((-4 - 3 * circle - circle**2 + e * (4 - circle)) / circle**3)
        whole, half = np.exp(z), np.exp(z / 2)
        for _ in range(n_steps):
            n0 = self._product(w, v)
            a = half * w + q * n0
            na = self._product(a, v)
            b = half * w + q * na
            nb = self._product(b, v)
            nc = self._product(half * a + q * (2 * nb - n0), v)
            w = whole * w + f1 * n0 + 2 * f2 * (na + nb) + f3 * nc
        return w
