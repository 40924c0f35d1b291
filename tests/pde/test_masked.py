"""Masked entries of `numpy.ma` are no numbers: every argument that takes an array refuses them by its name."""

import numpy as np
import pytest

import pde
from pde import ConvectionDiffusion, bounds, checks, convergence, feynman_kac, grid, problems, spectral
from pde.feynman_kac.control_variates import controlled_estimate, heat_semigroup
from pde.feynman_kac.quasi import quasi_estimate

N = 8
F = np.cos(2 * np.pi * np.arange(N) / N)[:, None] * np.ones(N)
V = np.stack([F.T, F])
POINTS = np.array([[0.1, 0.2], [0.3, 0.4]])
MASKED_NUMBER = np.ma.array(1.0, mask=True)


def masked(values):
    """One entry masked, and a mask of which nothing is seen in the data."""
    values = np.array(values, dtype=float)
    return np.ma.array(values, mask=np.arange(values.size).reshape(values.shape) == 1)


def problem(velocity=V, terminal=F, **options):
    return ConvectionDiffusion(velocity, terminal, **({"sigma": 0.3} | options))


CALLS = {
    "velocity": lambda: problem(masked(V)),
    "velocity ": lambda: problem([V[0], masked(V[1])]),
    "velocity(t)": lambda: problem(lambda t: masked(V)),
    "velocity(x, t)": lambda: problem(lambda x, t: masked(0 * x)),
    "terminal": lambda: problem(terminal=masked(F)),
    "terminal(x)": lambda: problem(terminal=lambda x: masked(0 * x[..., 0])),
    "sigma": lambda: problem(sigma=masked(np.full((N, N), 0.3))),
    "sigma ": lambda: problem(np.stack([V, V]), sigma=[0.3, np.ma.masked]),
    "sigma  ": lambda: problem(sigma=np.ma.masked),
    "horizon": lambda: problem(horizon=MASKED_NUMBER),
    "potential": lambda: problem(potential=masked(F)),
    "potential ": lambda: problem(potential=MASKED_NUMBER),
    "source": lambda: problem(source=masked(F)),
    "values": lambda: pde.PeriodicField(masked(F)),
    "values ": lambda: grid.coefficients(masked(F)),
    "values  ": lambda: grid.resample(masked(F), N),
    "values   ": lambda: convergence.l2_norm(masked(F)),
    "c": lambda: grid.from_coefficients(np.ma.masked_equal(grid.coefficients(F), 0), N),
    "save_at": lambda: spectral.solve(problem(), save_at=masked([0.0, 0.5])),
    "rtol": lambda: spectral.solve(problem(), rtol=MASKED_NUMBER),
    "n": lambda: spectral.solve(problem(), n=np.ma.array(16, mask=True)),
    "points": lambda: feynman_kac.estimate(problem(), masked(POINTS), 4, 4),
    "points ": lambda: feynman_kac.estimate(problem(), [POINTS[0], masked(POINTS[1])], 4, 4),
    "points  ": lambda: feynman_kac.gradient(problem(), masked(POINTS), n_paths=4, n_steps=4),
    "points   ": lambda: quasi_estimate(problem(), masked(POINTS), 4, 4, 2),
    "points    ": lambda: bounds.certified_radius(problem(), masked(POINTS)),
    "points     ": lambda: problems.fourier_mode().exact(masked(POINTS)),
    "points      ": lambda: heat_semigroup(problem(), 0.5)(masked(POINTS)),
    "coefficient": lambda: controlled_estimate(problem(), POINTS, 4, 4, coefficient=MASKED_NUMBER),
    "n_paths": lambda: feynman_kac.estimate(problem(), POINTS, np.ma.array(16, mask=True), 4),
    "u": lambda: bounds.smoothing_radius(masked([0.1, 0.2]), -1.0, 1.0, 0.1),
    "radius": lambda: bounds.counterexample_gradient(masked([1.0, 2.0]), 1.0, 1.0),
}


@pytest.mark.parametrize("name", CALLS)
def test_masked_entries_are_refused_by_name(name):
    with pytest.raises(ValueError) as refused:
        CALLS[name]()
    assert str(refused.value).startswith(f"{name.strip()} must not be masked, got ")


def test_a_masked_array_without_masked_entries_is_an_array():
    values = np.ma.array(F)
    np.testing.assert_array_equal(pde.PeriodicField(values).values, F)
    assert type(checks.finite_array("values", values)) is np.ndarray
