"""What a trained network is as an equation: its steps, its sigma(t), and what refining or coarsening the step does."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What a trained network's step looks like")

with app.setup:
    import marimo as mo
    import torch

    import bridge
    from lessons._drawing import as_image
    from lessons._exercise import verdict
    from lessons._figures.steps import draw_refinement, draw_steps, largest_slopes, noiseless, other_steps
    from lessons._links import closing
    from lessons._planar import noise_scaled, spirals, train
    from lessons._source import show_source


@app.cell
def _():
    mo.md(r"""
    # 5. What a trained network's step looks like

    **Statement.** Any row of residual blocks *is* the Euler–Maruyama method for some equation, with $L$ steps of length
    $\Delta t = T / L$. Whether it is also a *good* approximation of it depends on the training:

    $$x_{l+1} = x_l + F_l(x_l) + a\, s_l\, \xi_l \ \text{ is a step of }
    dX = \tfrac{1}{\Delta t} F_l(X)\, dt + \sigma\, dB$$

    with $\sigma(t_l) = a\, s_l / \sqrt{\Delta t} = a\, s_l \sqrt{L / T}$, $s_l$ the standard deviation of the
    components of the block's output. A step is small if $|F_l(x_l)| \ll |x_l|$, and safe if $\mathrm{Lip}(F_l)$,
    $\Delta t$ times the Lipschitz constant of the drift, is well below 2 (lesson 1). Below: eight blocks trained on two
    spirals (lesson 4).
    """)
    return


@app.cell
def _():
    model, (x, y) = train(), spirals(256, seed=1000)
    (_lift, net), path = model.members[0], []
    with bridge.noise_off(model), torch.no_grad():
        path.append(states := _lift(x))
        for _block in net.blocks:
            path.append(_block(path[-1]))
        right = float((net(states).argmax(1) == y).float().mean())
    path = torch.stack(path)
    assert right > 0.9, "the training has failed"
    noise = mo.ui.slider(0, 1, 0.1, value=0.2, label="Noise $a$", show_value=True)
    k = mo.ui.slider(steps=[1, 2, 4, 8, 16, 32, 64], value=1, label="Parts of each block, $k$", show_value=True)
    mo.vstack([mo.hstack([noise, k], justify="start", gap=2, wrap=True)])
    return k, model, net, noise, path, right, states, y


@app.cell
def _(k, model, net, noise, path, states, y):
    _sde = bridge.ResNetSDE(net.blocks)
    with noise_scaled(model, noise.value), bridge.noise_from(model, torch.Generator().manual_seed(0)):
        _sigma = _sde.effective_sigma(states)
    with bridge.noise_off(model), torch.no_grad():
        _fine = [states]
        for _block in noiseless(_sde.refined(k.value)).blocks:
            _fine.append(_block(_fine[-1]))
        _sizes = (path[1:] - path[:-1]).norm(dim=2) / path[:-1].norm(dim=2)
    _slopes = largest_slopes(net.blocks, path)
    _text = (
        f"median step {_sizes.median():.2f} of the state, largest Δt Lip(F) {_slopes.max():.1f}, "
        f"σ from {_sigma.median(dim=1).values.min():.2f} to {_sigma.median(dim=1).values.max():.2f}"
    )
    _figure = draw_steps(path, torch.stack(_fine), y, _sizes, _slopes, _sigma, k.value)
    mo.vstack([as_image(_figure, f"Paths of the states, steps and sigma by layer: {_text}."), mo.md(f"**{_text}.**")])
    return


@app.cell
def _():
    _text = mo.md(r"""
    ## Break it
    Refine the step above: each block in $k$ parts, $x + \frac1k F_l(x)$, the same equation and closer to it. Or coarsen
    it: every $m$-th block alone, with $m F_l$. If the blocks were small steps of one smooth equation, neither would
    change the predictions by much.
    """)
    m = mo.ui.slider(steps=[1, 2, 4, 8], value=1, label="One block in place of $m$", show_value=True)
    mo.vstack([_text, m])
    return (m,)


@app.cell
def _(net, right, states, y):
    steps, errors, shares = other_steps(net, states, y)
    # Order 1 leaves an eighth of the error from 1/32 to 1/256, a quarter with the terms beyond; rounding turns few.
    assert errors[-1] < errors[-4] / 4 and abs(shares[steps.index(1)] - right) < 0.02, (errors, shares)
    return errors, shares, steps


@app.cell
def _(errors, k, m, right, shares, steps):
    _chosen = m.value if m.value > 1 else 1 / k.value
    _text = (
        f"right: {shares[steps.index(_chosen)]:.1%} at {_chosen:g} of the trained step, "
        f"{right:.1%} as trained, {shares[-1]:.1%} in the limit of small steps"
    )
    _image = as_image(draw_refinement(steps, errors, shares, _chosen), f"Distance to the limit and accuracy: {_text}.")
    mo.vstack([_image, mo.md(f"**{_text}.**")])
    return


@app.cell
def _():
    _text = mo.md(r"""
    **Why.** Training minimises the loss at one step size. Nothing forces neighbouring blocks to be alike, or their
    slopes to be small: the equation exists, but this network does not approximate it. It depends on the errors of its
    steps, including jumps from one side to the other. Statements on the equation – its bounds, its limit – apply to the
    network only as far as refining leaves its predictions unchanged.

    ## Exercise
    Each of $L = 16$ blocks adds noise of standard deviation 0.1 to every component ($T = 1$). What is $\sigma$?
    """)
    answer = mo.ui.number(start=0, stop=10, step=0.01, value=0, label=r"$\sigma$")
    mo.vstack([_text, answer])
    return (answer,)


@app.cell
def _(answer):
    _still = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
    _still.weight.zero_()
    _sde = bridge.ResNetSDE([bridge.NoisyResidual(_still, coef=0.1, scale="additive") for _ in range(16)])
    _sigma, _network = float(_sde.g(0.0, torch.zeros(1, 1))), _sde.refined(4)
    with bridge.noise_from(_network, torch.Generator().manual_seed(0)):
        _variance = float(_network(torch.zeros(20000, 1)).var())
    # The variance of 20000 ends is known to sqrt(2 / 20000) = 1 %; five of these: one false alarm in a million.
    assert abs(_sigma - 0.4) < 1e-6 and abs(_variance / _sigma**2 - 1) < 0.05
    verdict(
        answer.value or None,
        abs(answer.value - 0.4) < 0.005,
        right=f"0.1 √16, and the ends of 64 blocks of a quarter have the variance {_variance:.3f} ≈ σ² T.",
        wrong="The variances of 16 blocks add up to σ² T; or: a block lasts Δt = 1/16, and its noise is σ √Δt.",
    )
    return


@app.cell
def _():
    _rate = show_source(bridge.ResNetSDE._coefficients, first="rate = ", last="return")
    _part = show_source(bridge.NoisyResidual.substep, first="part = ", last="part._whole_dt")
    closing("trained_networks", "The drift and the diffusion of a block, and a part of it:", _rate, _part)
    return


if __name__ == "__main__":
    app.run()
