"""The problems of the spectral benchmark, and reference solutions that share no code with any solver timed.

u_t + F . grad u + nu lap u = 0,  u(x, T) = f(x),  nu = sigma**2 / 2,  on the unit torus, solved for u(x, 0).

F and f are trigonometric polynomials with fixed seeds, so every grid samples the same functions and the
solution on a coarse grid is a subset of the solution on a fine one. `PINNED` is the main problem, `OTHERS` vary it.
"""

import hashlib
import inspect
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft

HORIZON = 1.0
TERMINAL_K_MAX = 5
N_NORMALISE = 512
# Largest error of a reference.
TOLERANCE = 5e-10
CACHE = Path(__file__).parent / ".cache"


class Problem(NamedTuple):
    """A problem, the grid on which it is solved by default, and the resolution of its reference."""

    name: str
    n: int = 128
    sigma: float = 0.1
    speed: float = 1.0
    velocity_k_max: int = 4
    velocity_seed: int = 11
    terminal_seed: int = 23
    reference_n: int = 256
    reference_steps: int = 1500


PINNED = Problem("pinned", reference_steps=5000)
SIGMA = PINNED.sigma
OTHERS = (
    Problem("other velocity", velocity_seed=12),
    Problem("other data", terminal_seed=24),
    Problem("velocity modes ≤ 8", n=192, velocity_k_max=8, reference_steps=2500),
    Problem("velocity modes ≤ 16", n=256, velocity_k_max=16, reference_n=384, reference_steps=4000),
    Problem("σ = 0.05", n=256, sigma=0.05, reference_n=384),
    Problem("σ = 0.4", sigma=0.4, reference_n=128),
    Problem("speed × 3", n=256, speed=3.0, reference_n=384, reference_steps=5000),
    Problem("speed × 0.2", speed=0.2, reference_n=128),
)


class Reference(NamedTuple):
    """The reference on its own grid, with estimates of its errors and its maximum."""

    u: np.ndarray
    time_error: float
    space_error: float
    max_abs: float

    def on_grid(self, n):
        """The reference at n x n points: its own, or by trigonometric interpolation."""
        return self.u[:: len(self.u) // n, :: len(self.u) // n] if len(self.u) % n == 0 else resample(self.u, n)


def random_polynomial(rng, k_max):
    """Coefficients c[k], 0 < |k| <= k_max, of a real random polynomial: c[-k] = conj(c[k]), size ~ 1 / |k|."""
    k = np.arange(-k_max, k_max + 1)
    size = np.hypot(k[:, None], k)
    draws = rng.standard_normal((2, *size.shape))
    weight = np.divide(1.0, size, out=np.zeros_like(size), where=(size > 0) & (size <= k_max))
    c = weight * (draws[0] + 1j * draws[1])
    return c + c[::-1, ::-1].conj()


def evaluate(c, n):
    """Values of sum_k c[k] exp(2 pi i k . x) at the n x n points."""
    k_max = len(c) // 2
    if n <= 2 * k_max:
        raise ValueError(f"n must exceed {2 * k_max} to hold the polynomial, got n={n}")
    k = np.arange(-k_max, k_max + 1)
    spectrum = np.zeros((n, n), dtype=complex)
    spectrum[np.ix_(k, k)] = c
    return np.fft.ifft2(spectrum, norm="forward").real


def make_fields(n, problem=PINNED):
    """The velocity (2, n, n), sup |F| = speed, not divergence free, and the terminal data (n, n), sup |f| = 1."""
    rng = np.random.default_rng(problem.velocity_seed)
    velocity_hat = [random_polynomial(rng, problem.velocity_k_max) for _ in range(2)]
    terminal_hat = random_polynomial(np.random.default_rng(problem.terminal_seed), TERMINAL_K_MAX)
    speed = np.hypot(*(evaluate(c, N_NORMALISE) for c in velocity_hat)).max()
    height = np.abs(evaluate(terminal_hat, N_NORMALISE)).max()
    velocity = np.stack([evaluate(c, n) for c in velocity_hat]) * (problem.speed / speed)
    return velocity, evaluate(terminal_hat, n) / height


def lawson_rk4(velocity, terminal, nu, horizon, n_steps):
    """Integrating-factor RK4 in s = T - t, where the equation reads v_s = F . grad v + nu lap v; 2/3 rule."""
    n = len(terminal)
    k0 = 2j * np.pi * fft.fftfreq(n, 1 / n)[:, None]
    k1 = 2j * np.pi * fft.rfftfreq(n, 1 / n)
    cut = 2 * np.pi * ((n - 1) // 3)
    keep = (np.abs(k0) <= cut + 1e-9) & (np.abs(k1) <= cut + 1e-9)
    h = horizon / n_steps
    half = np.exp(0.5 * h * nu * (k0**2 + k1**2).real)
    full = half**2

    def transport(v_hat):
        product = velocity[0] * fft.irfft2(k0 * v_hat, s=(n, n)) + velocity[1] * fft.irfft2(k1 * v_hat, s=(n, n))
        return h * keep * fft.rfft2(product)

    v_hat = keep * fft.rfft2(terminal)
    for _ in range(n_steps):
        a = transport(v_hat)
        b = transport(half * (v_hat + 0.5 * a))
        c = transport(half * v_hat + 0.5 * b)
        d = transport(full * v_hat + half * c)
        v_hat = full * (v_hat + a / 6) + half * (b + c) / 3 + d / 6
    return fft.irfft2(v_hat, s=(n, n))


def resample(u, n):
    """Trigonometric interpolation of u at n x n points; it must have no modes beyond n / 2."""
    m, half = len(u), (min(len(u), n) - 1) // 2
    u_hat = np.fft.fft2(u, norm="forward")
    k = np.arange(-half, half + 1)
    spectrum = np.zeros((n, n), dtype=complex)
    spectrum[np.ix_(k, k)] = u_hat[np.ix_(k % m, k % m)]
    return np.fft.ifft2(spectrum, norm="forward").real


def compute_reference(problem=PINNED):
    """Solve at the reference resolution, again with twice the step, and again on a coarser grid."""
    nu, n, n_steps = problem.sigma**2 / 2, problem.reference_n, problem.reference_steps
    u = lawson_rk4(*make_fields(n, problem), nu, HORIZON, n_steps)
    u_double = lawson_rk4(*make_fields(n, problem), nu, HORIZON, n_steps // 2)
    n_coarse = 3 * n // 4
    u_coarse = lawson_rk4(*make_fields(n_coarse, problem), nu, HORIZON, n_steps // 2)
    # The fourth-order error of the finer run is a fifteenth of what separates it from the run with twice its step.
    time_error = np.abs(u - u_double).max() / 15
    space_error = np.abs(resample(u_double, n_coarse) - u_coarse).max()
    return Reference(u, float(time_error), float(space_error), float(np.abs(u).max()))


def check_reference(ref):
    """Refuse a reference that is not far better than the solutions it is to judge."""
    if not max(ref.time_error, ref.space_error) <= TOLERANCE:
        raise RuntimeError(
            f"reference errors must be at most {TOLERANCE:g}, "
            f"got {ref.time_error:.1e} (time) and {ref.space_error:.1e} (space)"
        )
    if not ref.max_abs <= 1 + TOLERANCE:
        raise RuntimeError(f"the maximum principle requires max |u| <= 1, got {ref.max_abs:.12g}")
    return ref


def reference_path(problem=PINNED):
    """Where the reference of exactly these fields by exactly this scheme is cached."""
    scheme = "".join(map(inspect.getsource, (lawson_rk4, compute_reference)))
    digest = hashlib.sha256((scheme + repr(problem)).encode())
    for field in make_fields(problem.reference_n, problem):
        digest.update(field.tobytes())
    return CACHE / f"reference-{digest.hexdigest()[:16]}.npz"


def reference(problem=PINNED):
    """The checked reference; computed once in about a minute, then read from the cache."""
    path = reference_path(problem)
    if path.exists():
        with np.load(path) as data:
            numbers = (float(data[k]) for k in ("time_error", "space_error", "max_abs"))
            return check_reference(Reference(data["u"], *numbers))
    ref = check_reference(compute_reference(problem))
    CACHE.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".npz", delete=False) as file:
        np.savez(file, **ref._asdict())
    os.replace(file.name, path)
    return ref


def save_fields(folder, n, problem=PINNED):
    """Write the arrays of a problem on an n x n grid for every tool to read; return its path, of this problem alone."""
    velocity, terminal = make_fields(n, problem)
    path = Path(folder) / f"fields-{[PINNED, *OTHERS].index(problem)}-{n}.npz"
    np.savez(path, velocity=velocity, terminal=terminal, sigma=problem.sigma, horizon=HORIZON, length=1.0)
    return path
