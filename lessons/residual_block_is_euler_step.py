"""A residual block is an Euler step: trajectories, step size, and what breaks when dt times Lipschitz exceeds 2."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A residual block is an Euler step")

with app.setup:
    import marimo as mo
    import numpy as np
    import torch

    import bridge
    import pde
    from lessons._drawing import BLUE, GREEN, GREY, RED, as_image, new_figure
    from lessons._exercise import verdict
    from lessons._links import closing
    from lessons._source import show_source


@app.cell
def _():
    mo.md(r"""
    # 1. A residual block is an Euler step

    **Statement.** A residual block adds something small to its input. A row of $L$ of them is the forward Euler method
    with step $\Delta t = T / L$ for the trajectories of a velocity field $F$ (equations (2.3) and (2.4) of the paper):

    $$x_{l+1} = x_l + \Delta t \, F(x_l) \qquad\text{is a step of}\qquad \frac{dx}{dt} = F(x), \quad 0 \le t \le T$$

    The network returns $f(x_L)$, which tends to $f(x(T)) = u(x, 0)$, the solution of the transport equation
    $u_t + F \cdot \nabla u = 0$, $u(x, T) = f(x)$ (2.6). Below, $F$ turns in cells; thin lines are levels of $f$.
    """)
    return


@app.cell
def _():
    _x, _y = 2 * np.pi * np.moveaxis(pde.grid.points(16), -1, 0)
    _velocity = 0.4 * np.stack([np.sin(_x) * np.cos(_y), -np.cos(_x) * np.sin(_y)])
    problem = pde.ConvectionDiffusion(_velocity, np.sin(_x) + np.cos(_y), sigma=0)
    # The equation itself, solved without any trajectory: what the networks are compared with.
    _u, _points = pde.spectral.solve(problem, n=192, rtol=1e-6).u[::12, ::12], torch.as_tensor(pde.grid.points(16))
    sizes = np.array([4, 8, 16, 32, 64, 128, 256])
    with torch.no_grad():
        _outputs = [bridge.network_from_velocity(problem, n_layers=n)(_points).numpy() for n in sizes]
    errors = np.array([pde.convergence.sup_norm(output - _u) for output in _outputs])
    order = pde.convergence.observed_order(1 / sizes, errors).order
    # The next term of the error is about Lip(F) dt times the first: a quarter of it on average, so of the slope too.
    assert abs(order - 1) < 0.25, order
    n_layers = mo.ui.slider(steps=[2**k for k in range(9)], value=8, label="Number of blocks $L$", show_value=True)
    mo.vstack([n_layers])
    return errors, n_layers, order, problem, sizes


@app.cell
def _(errors, n_layers, order, problem, sizes):
    _n, _figure, (_left, _right) = n_layers.value, *new_figure(2, height=4)
    _grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 65)] * 2, indexing="ij"), axis=-1)
    _left.contour(*np.moveaxis(_grid, -1, 0), problem.terminal_at(_grid), colors=GREY, linewidths=0.4)
    for _size, _style in ((1024, {"color": GREY, "lw": 3}), (_n, {"color": BLUE, "lw": 1, "marker": "."})):
        _states = [torch.tensor([[0.35, 0.1], [0.15, 0.6], [0.6, 0.15], [0.65, 0.6]], dtype=torch.float64)]
        for _block in bridge.network_from_velocity(problem, n_layers=_size).blocks:
            _states.append(_block(_states[-1]))
        for _path in torch.stack(_states, dim=1).numpy():
            _left.plot(*_path.T, **_style)
    _left.set(xlabel="x", ylabel="y", aspect="equal", title=f"trajectories (grey) and {_n} blocks (blue)")
    _right.loglog(1 / sizes, errors, "o-", color=BLUE, label=f"measured, order {order:.2f}")
    _right.loglog(1 / sizes, errors[-1] * sizes[-1] / sizes, "--", color=GREY, label="order 1")
    _right.axvline(1 / _n, color=RED, label=f"Δt = 1/{_n}")
    _right.set(xlabel="step Δt = T / L", ylabel="max |network − u(·, 0)|", title="error of the output")
    _right.legend()
    as_image(_figure, f"Four trajectories and the polygons of {_n} blocks; error against step, of order {order:.2f}.")
    return


@app.cell
def _(problem):
    def decay(rate, n):
        branch, states = torch.nn.Linear(1, 1, bias=False).requires_grad_(False), [torch.ones(1, 1)]
        branch.weight.fill_(-rate)
        for _ in range(n):
            states.append(bridge.NoisyResidual(branch, dt=1 / n, noise=None)(states[-1]))
        return torch.cat(states).flatten().numpy()

    _jacobian = problem.velocity.jacobian(pde.grid.points(32))
    _text = mo.md(rf"""
    Halving Δt halves the error: the velocity above is gentle, $\text{{Lip}}(F) =
    {np.linalg.norm(_jacobian, ord=2, axis=(-2, -1)).max():.1f}$.

    ## Break it
    A branch that only pulls to 0, $F(x) = -\lambda x$. Raise $\lambda$, or take fewer blocks with the slider above.
    """)
    stiffness = mo.ui.slider(1, 60, value=12, label=r"Lipschitz constant $\lambda$", show_value=True)
    mo.vstack([_text, stiffness])
    return decay, stiffness


@app.cell
def _(decay, n_layers, stiffness):
    _n, _rate, _figure, _axes = n_layers.value, stiffness.value, *new_figure(width=5.2, height=2.9)
    _product, _path, _t = _rate / _n, decay(_rate, _n), np.linspace(0, 1, 400)
    _what = "decays" if _product <= 1 else "overshoots 0" if _product < 2 else "does not decay"
    _axes.plot(_t, np.exp(-_rate * _t), color=GREY, lw=3, label="exp(−λt)")
    _axes.plot(np.linspace(0, 1, _n + 1), _path, ".-", color=RED if _product >= 2 else GREEN, label=f"{_n} blocks")
    _axes.set(xlabel="t", ylabel="x", title=f"Δt λ = {_product:.2f}: the network {_what}")
    _axes.set_yscale("symlog", linthresh=1)
    _axes.legend()
    as_image(_figure, f"With dt times lambda = {_product:.2f} the network {_what}; it ends at {_path[-1]:.3g}.")
    return


@app.cell
def _():
    _text = mo.md(r"""
    **Why.** A block multiplies by $1 - \lambda\Delta t$. For $\lambda\Delta t > 1$ it overshoots 0; for
    $\lambda\Delta t > 2$ it ends farther from 0 than it started, $|1 - \lambda\Delta t| > 1$, unlike the exact
    solution. A trained block, $\Delta t = 1$, whose branch contracts with a constant above 2 follows no such equation.

    ## Exercise
    For $\lambda = 50$ and $T = 1$, what is the smallest number of blocks for which $|x_l|$ never grows?
    """)
    answer = mo.ui.number(start=1, stop=200, value=1, label="Number of blocks")
    mo.vstack([_text, answer])
    return (answer,)


@app.cell
def _(answer, decay):
    # The factor is -1 at L = 25, to 25 roundings of single precision, and -1.083 at 24: its 24th power is 6.8.
    assert np.abs(decay(50, 25)).max() < 1 + 1e-5 and np.abs(decay(50, 24)).max() > 6
    _largest = np.abs(decay(50, answer.value)).max()
    verdict(
        None if answer.value == 1 else answer.value,
        answer.value == 25,
        right="At 25 the factor is −1: no growth, and no accuracy either.",
        wrong=f"With {answer.value} blocks max |x| is {_largest:.3g}, and the factor is {1 - 50 / answer.value:.2f}.",
    )
    return


@app.cell
def _():
    _source = show_source(bridge.NoisyResidual.forward, first="start, branch", last="y = torch.add")
    closing("residual_block_is_euler_step", "The step of a residual block:", _source)
    return


if __name__ == "__main__":
    app.run()
