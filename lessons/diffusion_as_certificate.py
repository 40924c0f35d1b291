"""Diffusion as a certificate: how far an input may move before its class changes, proved from one number."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Diffusion as a certificate")

with app.setup:
    import marimo as mo
    import numpy as np

    import pde
    from lessons._drawing import as_image
    from lessons._exercise import verdict
    from lessons._figures.balls import DISTANCE, INPUTS, SPACING, draw_balls, draw_noise, problem_of
    from lessons._links import closing
    from lessons._source import show_source


@app.cell
def _():
    mo.md(r"""
    # 6. Diffusion as a certificate

    **Statement.** An attack shows that a class *can* change. A certificate proves that it *cannot*, within a radius.
    Noise makes it possible: where $u$ is an average over a Gaussian cloud of width $s$, and $0 \le f \le 1$ after
    scaling to $p = (u - a) / (b - a)$, the function $\Phi^{-1}(p)$ cannot be steeper than $1/s$:

    $$r(x) = s\,\big(\Phi^{-1}(p(x)) - \Phi^{-1}(p_0)\big), \quad s^2 = \sigma^2 \int_0^T e^{-2 \gamma t}\, dt$$

    Here $a \le f \le b$, $p_0 = -a / (b - a)$ is the boundary, and $\gamma$ is the largest rate at which $v$ stretches.
    For $v = 0$ this is randomized smoothing (Cohen et al. 2019): $s = \sigma \sqrt{T}$.

    Below: the decision boundary, an input, the ball that the smoothing certificate proves (blue), and the
    largest ball that fits (dashed). A third one (green) is local: it uses all of $u$ and proves where $u$ is not 0.
    """)
    return


@app.cell
def _():
    sigma = mo.ui.slider(steps=[0.06, 0.08, 0.1, 0.15, 0.2, 0.3], value=0.15, label=r"$\sigma$", show_value=True)
    speed = mo.ui.slider(steps=[0, 0.1, 0.2, 0.5, 1], value=0, label="Speed, times $v$", show_value=True)
    x = mo.ui.slider(0, 1, SPACING, value=0.84, label="Input $x$", show_value=True)
    y = mo.ui.slider(0, 1, SPACING, value=0.1, label="Input $y$", show_value=True)
    mo.hstack([sigma, speed, x, y], justify="start", gap=2, wrap=True)
    return sigma, speed, x, y


@app.cell
def _(sigma, speed):
    _problem = problem_of(sigma.value, speed.value)
    solution = pde.spectral.solve(_problem, n=128, rtol=1e-6)
    # For all positions of the input at once: finding the boundary takes the time, not the distance to it.
    _found = pde.bounds.certificates(_problem, INPUTS, method="spectral")
    _, _true = pde.bounds.boundary_distance(solution.field, INPUTS, solution.error_estimate, resolution=DISTANCE)
    # The theorem: no certificate reaches a point of the other class.
    assert (_found.radius <= _true).all()
    radii = {"true": _true, "local": _found.local, "smoothing": _found.smoothing, "sharp": _found.sharp}
    return radii, solution


@app.cell
def _(radii, solution, x, y):
    _point = np.array([x.value, y.value])
    _here = {name: float(each[tuple(np.rint(_point / SPACING).astype(int))]) for name, each in radii.items()}
    _text = (
        f"u = {float(solution.field(_point)):.3f}; certified by smoothing {_here['smoothing']:.3g}, by the slope "
        f"{_here['sharp']:.3g}, locally {_here['local']:.3g}; true distance {_here['true']:.3g}"
    )
    _figure = draw_balls(solution.field, _point, _here)
    mo.vstack([as_image(_figure, f"Decision boundary and certified balls: {_text}."), mo.md(f"**{_text}.**")])
    return


@app.cell
def _():
    _text = mo.md(r"""
    ## Break it
    Randomized smoothing on its own, $v = 0$: an input at distance $d$ from the edge of a half-plane, $f = \pm 1$. Here
    the certificate is the distance itself – if $u$ is known exactly. From $n$ draws it is estimated: with few draws and
    no confidence interval, the radius is false in half of all runs.
    """)
    draws = mo.ui.slider(steps=[16, 64, 256, 1024], value=64, label="Draws $n$", show_value=True)
    mo.vstack([_text, draws])
    return (draws,)


@app.cell
def _(draws):
    _figure, _naive, _safe = draw_noise(draws.value)
    # 400 runs: a share of 1/2 has the standard error 0.025, times five; the interval fails in one run of a thousand.
    assert 0.3 < _naive < 0.7 and _safe <= 6 / 400
    _text = f"radius too large in {_naive:.0%} of the runs without an interval, in {_safe:.1%} with one of 99.9 %"
    mo.vstack([as_image(_figure, f"Radii from {draws.value} draws: {_text}."), mo.md(f"**{_text}.**")])
    return


@app.cell
def _():
    _text = mo.md(r"""
    **Why.** Moving the input moves the whole cloud of end points, by $e^{\gamma t}$ at most. Of all sets with the same
    share of a Gaussian cloud a half-plane loses that share fastest (Neyman and Pearson), and for a half-plane
    $\Phi^{-1}(p)$ is a straight line of slope $1/s$ (`docs/certificates.md`).

    ## Exercise
    Let $v = 0$, $T = 1$, $-1 \le f \le 1$ and $u(x) = 0.6827$, so that $p = 0.8413 = \Phi(1)$. Which radius does
    smoothing certify for $\sigma = 0.2$?
    """)
    answer = mo.ui.radio(["0.1", "0.2", "0.6827"], label="The radius")
    mo.vstack([_text, answer])
    return (answer,)


@app.cell
def _(answer):
    _radius = float(pde.bounds.smoothing_radius(np.array(0.6827), -1.0, 1.0, 0.2))
    # 0.6827 has four digits: 5e-5 / 2 in p, over the density 0.242 of the normal law at 1.
    assert abs(_radius - 0.2) < 0.2 * 1.1e-4
    verdict(
        answer.value,
        answer.value == "0.2",
        right=f"Φ⁻¹(0.8413) = 1 and Φ⁻¹(1/2) = 0, so the radius is s = σ: {_radius:.4f}.",
        wrong="p₀ = 1/2 because −a / (b − a) = 1 / 2. What is Φ⁻¹(0.8413) − Φ⁻¹(1/2), times s?",
    )
    return


@app.cell
def _():
    _source = show_source(pde.bounds.smoothing_radius)
    closing("diffusion_as_certificate", "The radius of a smoothed classifier:", _source)
    return


if __name__ == "__main__":
    app.run()
