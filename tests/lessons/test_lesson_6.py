"""Facts that lesson 6 rests on, at every position of its sliders."""

import numpy as np
import pytest

pytest.importorskip("marimo", reason="marimo is not installed: the lessons need the extra teach")

import pde
from lessons._figures import balls

SPEEDS, SIGMAS = [0, 0.1, 0.2, 0.5, 1], [0.06, 0.08, 0.1, 0.15, 0.2, 0.3]
# By default each speed and each sigma once or twice.
PLACES = [
    pytest.param(speed, sigma, marks=[] if (i + 2 * j) % 5 == 0 else pytest.mark.slow)
    for i, speed in enumerate(SPEEDS)
    for j, sigma in enumerate(SIGMAS)
]


@pytest.mark.parametrize(("speed", "sigma"), PLACES)
def test_no_certificate_reaches_the_other_class_wherever_the_input_is(sigma, speed):
    problem = balls.problem_of(sigma, speed)
    solution = pde.spectral.solve(problem, n=128, rtol=1e-6)
    found = pde.bounds.certificates(problem, balls.INPUTS, method="spectral")
    _, true = pde.bounds.boundary_distance(
        solution.field, balls.INPUTS, solution.error_estimate, resolution=balls.DISTANCE
    )
    assert (found.radius <= true).all()
    assert (found.radius > 0).mean() > 0.9


@pytest.mark.parametrize("n_draws", [16, 64, 256, 1024])
def test_radius_without_an_interval_is_too_large_in_about_half_of_the_runs(n_draws):
    _, naive, safe = balls.draw_noise(n_draws)
    # As in the lesson: the seed is fixed, and so are both shares.
    assert 0.3 < naive < 0.7
    assert safe <= 6 / balls.N_RUNS


def test_balls_have_the_radii_of_the_certificates():
    problem = balls.problem_of(0.2, 0)
    point = np.array([0.4, 0.3])
    found = pde.bounds.certificates(problem, point, method="spectral")
    radii = {name: float(getattr(found, name)) for name in ("local", "smoothing", "sharp")} | {"true": 0.2}
    left, right = balls.draw_balls(pde.spectral.solve(problem, 64).field, point, radii).axes[:2]
    # For v = 0 the width of the cloud is sigma.
    assert found.spread == pytest.approx(0.2)
    assert [patch.radius for patch in left.patches] == pytest.approx([radii["local"], radii["smoothing"], 0.2])
    widths = [bar.get_width() for bar in right.patches]
    assert widths == pytest.approx([radii["sharp"], radii["smoothing"], radii["local"], 0.2])


def test_places_of_the_inputs_are_the_sliders_positions():
    assert balls.INPUTS[42, 5] == pytest.approx([0.84, 0.1])
    assert balls.INPUTS.shape == (51, 51, 2)
