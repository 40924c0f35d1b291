"""An ensemble is an expectation: decision regions with and without noise, attacks with and without averaging."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="An ensemble is an expectation")

with app.setup:
    import marimo as mo
    import torch

    import bridge
    import nets
    from lessons._drawing import as_image
    from lessons._exercise import verdict
    from lessons._figures.regions import (
        accuracy,
        draw_regions,
        draw_shares,
        is_right,
        logit_differences,
        one_draw_allowed,
        paired_difference,
    )
    from lessons._links import closing
    from lessons._planar import noise_scaled, spirals, train
    from lessons._source import show_source
    from nets.attacks import Objective


@app.cell
def _():
    mo.md(r"""
    # 4. An ensemble is an expectation

    **Statement.** A network with noise in its blocks returns a random number. What it *means* is the expectation,
    and an ensemble is a Monte-Carlo estimate of it, (3.1) of the paper, with an error bar:

    $$u(x, 0) = \mathbb E\,[f(X_T) \mid X_0 = x] \approx \frac1K \sum_{k=1}^{K} \frac1n \sum_{j=1}^{n} f_{kj}(x)
    \pm \frac{s}{\sqrt{K n}}$$

    $$X_{l+1} = X_l + F_l(X_l) + a \, s_l \, \xi_l, \quad \xi_l \sim \mathcal N(0, I)$$

    $f_{kj}$ is draw $j$ of member $k$, $s_l$ the standard deviation of the components of block $l$'s output. Below, two
    spirals in the plane and $K$ networks of eight blocks, trained together on this page with $a = 0.2$.
    """)
    return


@app.cell
def _():
    noise = mo.ui.slider(steps=[0, 0.1, 0.2, 0.4, 0.7, 1, 1.5], value=0.4, label="Noise $a$", show_value=True)
    draws = mo.ui.slider(steps=[1, 2, 4, 8, 16, 32, 64], value=16, label="Draws $n$", show_value=True)
    members = mo.ui.slider(1, 2, value=1, label="Members $K$", show_value=True)
    mo.vstack([mo.hstack([noise, draws, members], justify="start", gap=2, wrap=True)])
    return draws, members, noise


@app.cell
def _(members):
    model = train(members.value)
    x, y = spirals(400, seed=1000)
    # 0.99 and more in all trials, also with perturbed initial weights; a straight line would reach 0.6.
    assert accuracy(model, x, y, 32) > 0.9, "the training has failed"
    return model, x, y


@app.cell
def _(draws, model, noise, x, y):
    _cases = [("no noise", 0, 1), ("one draw", noise.value, 1), (f"mean of {draws.value}", noise.value, draws.value)]
    _figure, _text = draw_regions(model, x, y, _cases)
    as_image(_figure, f"Decision regions at noise {noise.value:g}, {len(x)} test points: {_text}.")
    return


@app.cell
def _():
    _text = mo.md(r"""
    ## Break it
    Raise the noise to 1, five times that of the training, and take one draw: the regions dissolve. More draws bring
    them back – up to a point, for the mean of a noisier network is another function. Then attack: one step of length
    $\varepsilon$ against the gradient, averaged over $m$ draws (EOT). One that sees one draw flatters the network.
    """)
    eps = mo.ui.slider(0.02, 0.14, 0.02, value=0.12, label=r"Length of the step $\varepsilon$", show_value=True)
    mo.vstack([_text, eps])
    return (eps,)


@app.cell
def _(eps, model, noise):
    _counts, _options, _generator = (
        [1, 4, 16, 64],
        {"eps": eps.value, "norm": "l2", "loss": "margin"},
        torch.Generator(),
    )
    # Four times as many points as above: the error bars are half as long.
    _x, _y = spirals(1600, seed=1000)
    with noise_scaled(model, noise.value), one_draw_allowed():
        _natural, _robust = [accuracy(model, _x, _y, n) for n in _counts], []
        for _n in _counts:
            _moved = nets.attacks.fgsm(model, _x, _y, n_eot=_n, generator=_generator.manual_seed(2), **_options)
            assert (_moved - _x).norm(dim=1).max() < eps.value + 1e-6  # inside the ball, up to rounding
            _robust.append(is_right(model, _moved, _y, 32))
    _gain, _error = paired_difference(_robust[0], _robust[-1])
    _shares = [float(each.mean()) for each in _robust]
    _left = (f"without attack, a = {noise.value:g}", "draws n per prediction", _natural)
    _right = (f"under attack, ε = {eps.value:g}; predictions: mean of 32", "draws m per gradient", _shares)
    _text = (
        f"under attack {_shares[0]:.1%} if it sees one draw, {_shares[-1]:.1%} if it averages {_counts[-1]}: one draw "
        f"flatters by {100 * _gain:.1f} ± {100 * _error:.1f} points"
    )
    _image = as_image(draw_shares(_counts, [_left, _right], len(_x)), f"Right at noise {noise.value:g}: {_text}.")
    mo.vstack([_image, mo.md(f"**Right {_text}** (paired on the same inputs; bars: ± one standard error).")])
    return


@app.cell
def _(model, x):
    _samples = torch.stack([logit_differences(model, _point, 1.0, 2048, 3) for _point in x[:64]])
    _ratio = _samples.mean(dim=1).abs() / _samples.std(dim=1)
    # A point where the mean is about 0.3 standard deviations from 0, so that a thousand draws are needed.
    point = x[torch.where(_ratio < 0.3, torch.inf, _ratio).argmin()]
    _samples = logit_differences(model, point, 1.0, 32768, 4)
    mean, deviation = float(_samples.mean()), float(_samples.std())
    answer = mo.ui.number(start=0, stop=100000, value=0, label="Draws $n$")
    _text = mo.md(rf"""
    **Why.** Classes are read from the mean, and the mean of $n$ draws has the error $s/\sqrt n$. The gradient of the
    mean is the mean of the gradients: an attack on it needs draws as well. One of many steps averages over its steps
    anyhow, and in the plane half of all directions help: EOT gains a few points here. In many dimensions it can decide
    (Athalye et al. 2018).

    ## Exercise
    At ({point[0]:.2f}, {point[1]:.2f}) and $a = 1$ one draw of the difference of the logits has the mean {mean:.2f} and
    the standard deviation {deviation:.2f}. How many draws until the standard error is a tenth of the mean? (To 10 %.)
    """)
    mo.vstack([_text, answer])
    return answer, deviation, mean, point


@app.cell
def _(answer, deviation, mean, model, point):
    _needed = (10 * deviation / mean) ** 2
    _n = answer.value or round(_needed)
    _means = logit_differences(model, point, 1.0, 200 * _n, 5).reshape(200, _n).mean(dim=1)
    # The spread of 200 means is accurate to 1 / sqrt(2 * 199) = 5 %; five of these: one false alarm in a million.
    assert _n < 20 or abs(float(_means.std()) * _n**0.5 / deviation - 1) < 0.26
    verdict(
        answer.value or None,
        abs(_n / _needed - 1) <= 0.1,
        right=f"200 means of {_n} draws spread by {_means.std():.3f}, a tenth of {abs(mean):.2f}.",
        wrong=f"200 means of {_n} draws spread by {_means.std():.3f}, {_means.std() / abs(mean):.2f} of the mean.",
    )
    return


@app.cell
def _():
    _mean = show_source(bridge.FeynmanKacMean.forward, first="return _mean((member")
    _eot = show_source(Objective.gradient, first="for _ in range(self.n_eot)", last="return tuple")
    closing("ensemble_is_expectation", "The mean over members and draws; the gradient of an attack:", _mean, _eot)
    return


if __name__ == "__main__":
    app.run()
