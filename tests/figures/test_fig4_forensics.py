"""Readings of the published Figure 4: lengths and solvers against closed forms, the rule at its edges."""

import numpy as np
import pytest

import pde
from figures import fig4_forensics as forensics


def test_contours_of_a_wave_have_their_length():
    x = np.arange(64) / 64
    u = np.broadcast_to(np.sin(2 * np.pi * x)[:, None], (64, 64))
    # Ten levels, each crossed twice, by lines of length 1.
    assert forensics.contour_length(u) == pytest.approx(20, rel=1e-12)
    assert forensics.contour_length(3 + 5 * u.T) == pytest.approx(20, rel=1e-12)


@pytest.mark.parametrize("scheme", ("2/3 rule", "no 2/3 rule", "filter"))
def test_the_pseudospectral_march_is_the_solution_of_a_resolved_problem(scheme):
    problem = pde.problems.crossed_shears(n=32, horizon=0.1)
    first, last = problem.velocity.on_grid(32)
    # In time to go: fifty steps with the later layer, then fifty with the earlier one.
    velocities = iter([last] * 50 + [first] * 50)
    u = forensics.march(problem.terminal_on_grid(32), lambda: next(velocities), problem.sigma**2 / 2, 100, scheme)
    # Runge-Kutta 4 in a hundred steps of 1e-3 is far more accurate than the modes that 32 points leave out.
    assert u == pytest.approx(problem.exact(pde.grid.points(32)), abs=1e-5)


def test_characteristics_of_a_constant_velocity_that_is_redrawn_are_its_sum():
    class Constant:
        def __init__(self):
            self.rng, self.sum = np.random.default_rng(0), np.zeros(2)

        def uniform(self, low, high, size):
            v = self.rng.uniform(low, high, 2)
            self.sum += v
            return np.broadcast_to(v[:, None, None], size).copy()

    x, y = np.moveaxis(pde.grid.points(16), -1, 0)
    rng = Constant()
    u = forensics._along_redrawn(np.cos(2 * np.pi * (x + 2 * y)), rng, 50)
    a, b = 1e-3 * rng.sum
    assert u == pytest.approx(np.cos(2 * np.pi * (x + a + 2 * (y + b))), abs=1e-12)


def test_a_number_is_compatible_inside_the_prediction_interval_widened_by_the_reading():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    # t of 7 degrees at 99 %: 3.4995; s = sqrt(6), n = 8.
    reach = 3.4995 * np.sqrt(6) * np.sqrt(1 + 1 / 8)
    for sign in (-1, 1):
        assert forensics._is_compatible(values, 4.5 + sign * (reach + 0.04), 0.05)
        assert not forensics._is_compatible(values, 4.5 + sign * (reach + 0.06), 0.05)
    assert not forensics._is_compatible(np.array([1.0, np.nan]), 1.0, 9.0)


def made_up(low, high, length):
    """Data in which every reading has these numbers, with a little scatter over three seeds."""
    shape = (len(forensics.READINGS), 3, 3)
    scatter = np.array([-0.001, 0, 0.001])[:, None]
    numbers = {key: np.broadcast_to(value + scatter, shape).copy() for key, value in
               {"low": low, "high": high, "length": length}.items()}  # fmt: skip
    return numbers | {
        "group": np.array([reading.group for reading in forensics.READINGS]),
        "name": np.array([reading.name for reading in forensics.READINGS]), "n": np.array(16.0),
    }  # fmt: skip


def test_a_reading_with_the_published_numbers_is_compatible_and_another_is_not():
    low, high = np.array(list(forensics.PUBLISHED_RANGES.values())).T
    data = made_up(low, high, np.array(forensics.PUBLISHED_LENGTHS))
    data["low"][0, :, 1] -= 0.2
    data["high"][1, :, 2] = np.nan
    data["low"][1, :, 2] = np.nan
    data["length"][2, :, 0] += 0.3
    found = forensics.findings(data)
    assert [one["compatible"] for one in found["readings"][:4]] == [False, False, False, True]
    assert len(found["compatible"]) == len(forensics.READINGS) - 3
    text = forensics.table(found)
    assert "blows up" in text
    assert text.count("**yes**") == len(forensics.READINGS) - 3
    forensics.plot(data)


def test_nearly_constant_fields_are_refused_however_their_means_scatter():
    low, high = np.array(list(forensics.PUBLISHED_RANGES.values())).T
    data = made_up(low, high, np.array(forensics.PUBLISHED_LENGTHS))
    # Panel (c) of the first reading: its fields span 0.01, about means that scatter as far as the published range.
    data["low"][0, :, 2] = (-0.13, 0.0, 0.14)
    data["high"][0, :, 2] = data["low"][0, :, 2] + 0.01
    first, second = forensics.findings(data)["readings"][:2]
    assert first["panels"][2]["tests"] == {"low": True, "high": True, "span": False, "length": True}
    assert (first["compatible"], second["compatible"]) == (False, True)
