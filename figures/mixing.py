"""Effective diffusivity: the enhancement of molecular diffusion by a shear and a cellular flow.

    dX = v(X) dt + sqrt(2 nu) dB,   D = lim E|X_1(t) - X_1(0)|**2 / (2 t)
      = nu + int_0^oo <v_1(x) E[v_1(X_t) | X_0 = x]> dt                                        (Green-Kubo; Taylor 1921)

The expectation is the solution of the equation whose terminal datum is the velocity itself, and the mean is over the
cell. `effective_diffusivity` contains all of the method. Known results, with Pe = A / (nu k):

    shear           v = (A sin ky, 0)                      D / nu = 1 + Pe**2 / 2     (exactly; Taylor dispersion)
    cellular flow   psi = (A / k) sin kx sin ky            D / nu = 1 + Pe**2 / 8 + O(Pe**4),  ~ sqrt(Pe) for Pe >> 1

Half a minute on one core, seconds with --quick.
"""

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import pde
from figures._cli import make_main
from figures._style import BLACK, BLUE, GREY, RED, letter

__all__ = ["compute", "effective_diffusivity", "findings", "main", "plot"]

K = 2 * np.pi
# The velocity correlation is computed until it falls to this fraction of its start, in steps of this part of a
# turnover.
LEAST, STEP = 1e-4, 0.25


def effective_diffusivity(velocity, nu, dt):
    """D of a velocity (2, n, n) of period 1 and mean zero: the integral of its correlation by Simpson's rule."""
    u, correlation = velocity[0], [np.mean(velocity[0] ** 2)]
    while len(correlation) % 2 == 0 or abs(correlation[-1]) > LEAST * correlation[0]:
        problem = pde.ConvectionDiffusion(velocity, u, sigma=np.sqrt(2 * nu), horizon=dt)
        u = pde.spectral.solve(problem, rtol=1e-6).u
        correlation.append(np.mean(velocity[0] * u))
    weights = np.where(np.arange(len(correlation)) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return nu + dt / 3 * (weights @ correlation)


def shear(n, amplitude):
    """v = (A sin ky, 0) on the grid, shape (2, n, n)."""
    _, y = np.moveaxis(pde.grid.points(n), -1, 0)
    return np.stack([amplitude * np.sin(K * y), 0 * y])


def cellular(n, amplitude):
    """v = (psi_y, -psi_x) of psi = (A / k) sin kx sin ky on the grid, shape (2, n, n)."""
    x, y = np.moveaxis(pde.grid.points(n), -1, 0) * K
    return amplitude * np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y)])


def compute(*, quick=False, seed=0):
    """`shear` and `cellular` (p,): D / nu at the Péclet numbers `peclet` (p,). Nothing is random."""
    peclet = np.array([0.25, 1.0, 4.0] if quick else [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64])
    rows = {"shear": [], "cellular": []}
    with tqdm(total=2 * len(peclet), disable=None, desc="mixing", unit="flow") as bar:
        for flow, found in ((shear, rows["shear"]), (cellular, rows["cellular"])):
            for number in peclet.tolist():
                # Amplitude 1; boundary layers of the cells are 1 / (k sqrt(Pe)) wide.
                nu, n = 1 / (K * number), 16 if flow is shear else 32 if number <= 4 else 64 if number <= 32 else 128
                dt = STEP / max(K, nu * K**2)
                found.append(effective_diffusivity(flow(n, 1.0), nu, dt) / nu)
                bar.update()
    return {"peclet": peclet} | {name: np.array(found) for name, found in rows.items()}


def findings(data):
    """Return the contents of the JSON file: the numbers, the shear's error, and the slopes of the cellular flow."""
    peclet, enhanced = data["peclet"], data["cellular"] - 1
    exact = peclet**2 / 2
    slopes = np.diff(np.log(data["cellular"])) / np.diff(np.log(peclet))
    return {
        "peclet": peclet.tolist(),
        "shear": data["shear"].tolist(),
        "cellular": data["cellular"].tolist(),
        "largest_relative_error_of_the_shear": float(np.abs((data["shear"] - 1) / exact - 1).max()),
        "cellular_over_peclet_squared_at_the_least": float(enhanced[0] / peclet[0] ** 2),
        "slope_of_the_cellular_flow_at_the_largest": float(slopes[-1]),
        "captions": {
            "": "Effective diffusivity D over the molecular ν against the Péclet number. (a) A shear: Taylor's formula "
            "is exact. (b) A cellular flow: second order for small Péclet numbers, the square root for large ones."
        },
    }


def plot(data):
    """Draw D / nu against the Péclet number for both flows, beside the known results."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    peclet = data["peclet"]
    dense = np.geomspace(peclet[0], peclet[-1], 100)
    panels = figure.subplots(1, 2)
    for place, (axes, name, title) in enumerate(
        zip(panels, ("shear", "cellular"), ("shear $v = (A\\,\\sin ky,\\ 0)$", "cellular flow"), strict=True)
    ):
        factor = 2 if name == "shear" else 8
        axes.plot(dense, 1 + dense**2 / factor, color=GREY, lw=1.5, label=f"1 + Pe²/{factor}")
        axes.plot(peclet, data[name], "o" if name == "shear" else "s", color=(BLUE, RED)[place], ms=6, label="computed")
        axes.set(xscale="log", yscale="log", xlabel="Péclet number Pe = A / (ν k)", ylabel="D / ν", ylim=(0.8, None))
        axes.set_title(f"{letter(place)} {title}")
    last = peclet >= peclet[-1] / 16
    constant = data["cellular"][-1] / np.sqrt(peclet[-1])
    panels[1].plot(peclet[last], constant * np.sqrt(peclet[last]), "--", color=BLACK, lw=1.2, label="slope 1/2")
    panels[1].set_ylim(0.8, 2 * data["cellular"].max())
    for axes in panels:
        axes.legend(loc="upper left")
    return figure


main = make_main("mixing", __doc__, compute=compute, plot=plot, findings=findings)


if __name__ == "__main__":
    main()
