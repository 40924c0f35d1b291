"""Effective diffusivity against closed forms."""

import numpy as np
import pytest

from figures import mixing


@pytest.mark.parametrize("number", (0.5, 2.0))
def test_a_shear_has_taylors_diffusivity(number):
    # Correlation A**2 / 2 e^(-nu k**2 t), cut at 1e-4 of it; Simpson's rule in steps of a quarter at most: 2e-5.
    nu = 1 / (mixing.K * number)
    dt = mixing.STEP / max(mixing.K, nu * mixing.K**2)
    found = mixing.effective_diffusivity(mixing.shear(16, 1.0), nu, dt) / nu
    assert found - 1 == pytest.approx(number**2 / 2, rel=3e-4)


def test_a_weak_cellular_flow_adds_an_eighth_of_the_squared_peclet_number():
    number = 0.125
    nu = 1 / (mixing.K * number)
    dt = mixing.STEP / (nu * mixing.K**2)
    found = mixing.effective_diffusivity(mixing.cellular(16, 1.0), nu, dt) / nu
    # The next term is of the order of Pe**4 / 100.
    assert found - 1 == pytest.approx(number**2 / 8, rel=2e-3)


def test_the_flows_are_free_of_divergence_and_of_mean_zero():
    for flow in (mixing.shear(16, 2.0), mixing.cellular(16, 2.0)):
        k = 2j * np.pi * np.fft.fftfreq(16, 1 / 16)
        u, v = np.fft.fft2(flow)
        assert np.abs(k[:, None] * u + k * v).max() < 1e-9
        assert np.abs(flow.mean(axis=(1, 2))).max() < 1e-12
