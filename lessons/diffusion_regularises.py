"""Diffusion regularises: Figure 4 over sigma, level sets as decision boundaries, and how long a step crosses."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Diffusion regularises")

with app.setup:
    import marimo as mo
    import numpy as np

    import pde
    from lessons._drawing import as_image
    from lessons._exercise import verdict
    from lessons._figures.boundary import FINE, crossing, draw, field_at_zero, in_units
    from lessons._links import closing
    from lessons._source import show_source

    VELOCITIES = {"smooth, four modes": "band-limited", "the paper's: random on each grid point": "grid-noise"}


@app.cell
def _():
    mo.md(r"""
    # 3. Diffusion regularises

    **Statement.** The classifier is the solution at time 0, and its decision boundary the level set $u(x, 0) = 0$.
    Noise in the blocks makes $u$ flatter, and from a given height a flat $u$ comes down to 0 only in a long step:

    $$u_t + v \cdot \nabla u + \tfrac12 \sigma^2 \Delta u = 0, \quad u(x, 1) = f(x)$$

    $$|u(x) - u(y)| \le B\,|x - y| \ \Longrightarrow\ \text{distance to the boundary} \ge |u(x)| / B$$

    $B$ bounds the slope. With $\gamma$ the largest rate at which $v$ stretches, $G = \|\nabla f\|_\infty$:

    $$B = e^{\gamma} G \,\mathrm{erf}\Big(\frac{\mathrm{osc}\, f}{\sqrt 2\, G S}\Big), \quad S^2 = 2 \sigma^2\,
    \frac{e^{2\gamma} - 1}{\gamma}$$

    This bound is sharp. Theorem 2.2 of the paper prints $e^{\gamma - \sigma^2} (\|f\|_\infty + G)$, which is false.

    Below: Figure 4 of the paper, an input (circle), and the step along the slope that flips its class (arrow).
    """)
    return


@app.cell
def _():
    _sigmas = [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2]
    sigma = mo.ui.slider(steps=_sigmas, value=0.1, label=r"$\sigma$", show_value=True)
    x = mo.ui.slider(0, 1, 0.02, value=0.4, label="Input $x$", show_value=True)
    y = mo.ui.slider(0, 1, 0.02, value=0.3, label="Input $y$", show_value=True)
    kind = mo.ui.radio(VELOCITIES, value="smooth, four modes", label="Velocity")
    mo.vstack([mo.hstack([sigma, x, y], justify="start", gap=2, wrap=True), kind])
    return kind, sigma, x, y


@app.cell
def _(kind, sigma):
    problem = pde.problems.figure4(seed=0, n=64, sigma=sigma.value, velocity=kind.value)
    (u, method), sharp = field_at_zero(problem), pde.bounds.sharp_gradient_bound(problem)
    steepest = u.jacobian_sup_norm(256)  # of a rough u: between its grid points
    return method, problem, sharp, steepest, u


@app.cell
def _(method, sharp, sigma, steepest, u, x, y):
    _point = np.array([x.value, y.value])
    way = crossing(u, _point)
    _radius = abs(way.height) / sharp.bound
    if method == "spectral":
        # The theorem does not include the solver's error, at most 1e-3; grid points are 1 / FINE apart.
        assert steepest <= 1.01 * sharp.bound
        assert _radius - 2e-3 / sharp.bound <= way.distance <= way.step + 2 / FINE
    _text = (
        f"u = {way.height:.3f}, largest slope {steepest:.3g}, bound B = {sharp.bound:.3g} (γ = {sharp.gamma:.3g}): "
        f"certified {_radius:.2g} ≤ nearest other class {way.distance:.2g} ≤ step along the slope {way.step:.2g}"
    )
    _figure = draw(u, _point, way, sharp.bound, f"u(·, 0), σ = {sigma.value:g} ({method}); boundary black")
    mo.vstack([as_image(_figure, f"Level sets, boundary and step: {_text}."), mo.md(f"**{_text}.**")])
    return (way,)


@app.cell
def _():
    _text = mo.md(r"""
    ## Break it
    Measure lengths in another unit, $c$ times as small: $\sigma$ and $v$ become $c$ times as large, slopes $c$ times as
    small, and nothing else happens. Raise $c$, and watch what the printed bound claims for the very same picture.
    """)
    unit = mo.ui.slider(1, 80, value=1, label="Units per side of the square, $c$", show_value=True)
    mo.vstack([_text, unit])
    return (unit,)


@app.cell
def _(problem, sharp, unit):
    _scaled = in_units(problem, unit.value)
    printed = unit.value * pde.bounds.gradient_bound_as_published(_scaled).bound
    # Maxima are enclosed to 1e-7 each, and gamma stands in an exponent.
    assert abs(unit.value * pde.bounds.sharp_gradient_bound(_scaled).bound / sharp.bound - 1) < 1e-5
    return (printed,)


@app.cell
def _(printed, sharp, steepest, unit, way):
    _says = f"slopes ≤ {printed:.3g}, distance to the boundary ≥ {abs(way.height) / printed:.3g}"
    _false = printed < steepest or abs(way.height) / printed > way.distance
    _text = f"""**Printed, c = {unit.value}:** {_says}. **Measured:** slope {steepest:.3g}, distance {way.distance:.3g}.
    {"**The printed bound is false**." if _false else "Not refuted yet."} The sharp bound stays {sharp.bound:.3g}."""
    mo.callout(mo.md(_text), kind="danger" if _false else "neutral")
    return


@app.cell
def _():
    _text = mo.md(r"""
    **Why.** Two paths that start apart may meet, and from then on agree: $u(x) - u(y)$ is at most $\mathrm{osc}\, f$
    times the chance that they do not, which noise lowers in every unit of length. The printed proof drops a condition,
    $\lambda \ge 0$, and claims a decay $e^{-\sigma^2}$ that does not exist (`docs/theorem-2-2.md`).

    ## Exercise
    A flatter $u$ is not yet a more robust one. Let $v = 0$ and $f = \cos 2\pi x$: the slope falls like $e^{-2 \pi^2
    \sigma^2}$. What becomes of the distance of the input $x = 0$ to the decision boundary, as $\sigma$ grows?
    """)
    answer = mo.ui.radio(["It grows", "It stays 1/4", "It shrinks"], label="The distance")
    mo.vstack([_text, answer])
    return (answer,)


@app.cell
def _(answer):
    _heights = []
    for _sigma in (0.05, 0.3):
        _u = pde.spectral.solve(pde.problems.fourier_mode((1, 0), sigma=_sigma)).field
        _heights.append(float(_u([0.0, 0.0])))
        # The solver's tolerance is 1e-8.
        assert abs(_heights[-1] - np.exp(-2 * (np.pi * _sigma) ** 2)) < 1e-7 and abs(_u([0.25, 0.3])) < 1e-7
    verdict(
        answer.value,
        answer.value == "It stays 1/4",
        right=f"u(0) falls from {_heights[0]:.2f} to {_heights[1]:.2f}, in step with the slope; u(1/4) stays 0.",
        wrong="What happens to the value |u(0)|, from which a step has to come down? Divide it by the slope.",
    )
    return


@app.cell
def _():
    _source = show_source(pde.bounds.sharp_gradient_bound, first="oscillation, spread", last="return SharpBound")
    closing("diffusion_regularises", "The sharp bound, in logarithms:", _source)
    return


if __name__ == "__main__":
    app.run()
