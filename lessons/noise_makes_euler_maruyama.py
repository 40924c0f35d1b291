"""Noise makes it Euler-Maruyama: paths, their density, and the Feynman-Kac formula as an average with an error bar."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Noise makes it Euler–Maruyama")

with app.setup:
    import marimo as mo
    import numpy as np
    import torch

    import bridge
    import pde
    from lessons._drawing import BLUE, RED, as_image, new_figure
    from lessons._exercise import verdict
    from lessons._links import closing
    from lessons._source import show_source


@app.cell
def _():
    mo.md(r"""
    # 2. Noise makes it Euler–Maruyama

    **Statement.** A block with noise is a step of the Euler–Maruyama method for an Itô equation, and the average of the
    network's output over the noise solves a convection–diffusion equation – the Feynman–Kac formula,
    (2.8) and (3.1) of the paper. An average over $N$ paths has an error bar that shrinks like $N^{-1/2}$.

    $$x_{l+1} = x_l + \Delta t \, v(x_l, t_l) + \sigma \, \Delta B_l, \quad \Delta B_l \sim N(0, \Delta t \, I)$$

    is a step of $dX = v \, dt + \sigma \, dB$, and $u_t + v \cdot \nabla u + \frac12 \sigma^2 \Delta u = 0$ with
    $u(\cdot, T) = f$ is solved by

    $$u(x, 0) = \mathbb E\,[f(X_T) \mid X_0 = x] \approx \frac1N \sum_{i=1}^N f(x_L^{(i)})$$

    The velocity is $v = \sigma^2 \nabla h / h$; the wave $h(x, t)$ solves the heat equation backwards. Everything
    is then known: the solution $u$, and the density of $X_T$, that of Brownian motion times $h(\cdot, T) / h(x, 0)$.
    """)
    return


@app.cell
def _():
    weight, sigma, x0 = 0.9, 0.2, np.array([0.125, 0.375])
    problem = pde.problems.doob(weight, sigma=sigma)

    def paths(n_paths, n_layers, seed=0):
        """States of all paths after each block, and the outputs f of the network at their ends."""
        net, states = bridge.network_from_velocity(problem, n_layers), [torch.as_tensor(x0).expand(n_paths, 2)]
        with torch.no_grad(), bridge.noise_from(net, torch.Generator().manual_seed(seed)):
            for block in net.blocks:
                states.append(block(states[-1]))
            return torch.stack(states).numpy(), net.output(states[-1]).numpy()

    n_paths = mo.ui.slider(steps=[2**k for k in range(5, 16)], value=1024, label="Number of paths $N$", show_value=True)
    n_layers = mo.ui.slider(steps=[2**k for k in range(7)], value=32, label="Number of blocks $L$", show_value=True)
    mo.vstack([n_paths, n_layers])
    return n_layers, n_paths, paths, problem, sigma, weight, x0


@app.cell
def _(n_layers, n_paths, paths, problem, sigma, weight, x0):
    _states, _outputs = paths(n_paths.value, n_layers.value)
    _figure, (_left, _middle, _right) = new_figure(3, width=10.5, height=3.9)
    for _path in _states[:, :24].swapaxes(0, 1):
        _left.plot(*_path.T, color=BLUE, lw=0.5)
    _left.plot(*_states[-1, :500].T, ".", color=RED, ms=3)
    _left.plot(*x0, "o", mfc="white", mec="black", zorder=3)
    _left.set(xlabel="x", ylabel="y", aspect="equal", title=f"{min(24, n_paths.value)} paths; ends orange")
    # Along the diagonal z the wave is 1 + weight cos(2 pi sqrt(2) z); across it, X is Brownian motion.
    _z, _start, _wave = np.linspace(-0.4, 1.1, 400), x0.sum() / np.sqrt(2), 2 * np.pi * np.sqrt(2)
    _normal = np.exp(-((_z - _start) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)
    _mass = 1 + weight * np.cos(_wave * _start) * np.exp(-((_wave * sigma) ** 2) / 2)
    _ends = _states[-1].sum(axis=-1) / np.sqrt(2)
    _middle.hist(
        _ends, bins=np.linspace(-0.4, 1.1, 46), density=True, color=BLUE, alpha=0.5, label=f"{len(_ends)} ends"
    )
    _middle.plot(_z, _normal * (1 + weight * np.cos(_wave * _z)) / _mass, color="black", label="exact density")
    _middle.set(xlabel="z = (x + y) / √2 at time T", ylabel="density", title=f"where {n_layers.value} blocks end")
    _middle.margins(y=0.3)
    _middle.legend(loc="upper left")
    _counts = np.unique(np.geomspace(16, n_paths.value, 9).astype(int))
    _means = np.array([_outputs[:n].mean() for n in _counts])
    _bars = np.array([_outputs[:n].std(ddof=1) / np.sqrt(n) for n in _counts])
    _u, _slope = problem.exact(x0), -pde.convergence.observed_order(_counts, _bars).order
    _right.errorbar(_counts, _means, _bars, fmt="o", color=BLUE, capsize=3, label="mean ± standard error")
    _right.axhline(_u, color="black", label=f"u(x, 0) = {_u:.4f}")
    _right.set(xscale="log", xlabel="N", ylabel="average of f", title=f"error bar $\\propto N^{{-{_slope:.2f}}}$")
    _right.legend()
    _text = f"{_means[-1]:.4f} ± {_bars[-1]:.4f} from {n_paths.value} paths of {n_layers.value} blocks, exact {_u:.4f}"
    _off = (_means[-1] - _u) / _bars[-1]
    mo.vstack(
        [
            as_image(_figure, f"Paths, density of their ends, and averages against N: {_text}."),
            mo.md(f"**{_text}**: {abs(_off):.1f} error bars {'above' if _off > 0 else 'below'}."),
        ]
    )
    return


@app.cell
def _():
    _text = mo.md(r"""
    ## Break it
    Take one block, and then more and more paths. The error bar shrinks – about a wrong number, and no average over more
    paths repairs it. The ends have a plain Gaussian density: $v = 0$ at the start, where the only block evaluates it.

    **Why.** The mean of $N$ independent outputs of variance $s^2$ has the variance $s^2 / N$. What is left is the error
    of the step: $\mathbb E[f(x_L)] - u(x, 0) = O(\Delta t)$. Paths cure the first, blocks the second.

    ## Exercise
    1024 paths give an error bar of about 0.029. How many give 0.007, a quarter?
    """)
    answer = mo.ui.radio(["2048", "4096", "16384", "1048576"], label="Number of paths")
    mo.vstack([_text, answer])
    return (answer,)


@app.cell
def _(answer, paths, problem, x0):
    _, _fine = paths(16384, 32)
    _, _one = paths(16384, 1)
    _few, _many = (_fine[:n].std(ddof=1) / np.sqrt(n) for n in (1024, 16384))
    # The standard deviation of 1024 outputs, kurtosis < 3, is accurate to 1 / sqrt(2 * 1024) = 2 %; five of these are
    # 0.44 of 4.
    assert abs(_few / _many - 4) < 0.44, (_few, _many)
    # One block is wrong by 0.19, 26 error bars; 32 by 0.01, which leaves 3.5 error bars to chance, one seed in 2000.
    assert abs(_one.mean() - problem.exact(x0)) > 10 * _many > 2 * abs(_fine.mean() - problem.exact(x0))
    _ratio = int(answer.value or 1024) / 1024
    verdict(
        answer.value,
        answer.value == "16384",
        right=f"Measured: {_few:.4f} for 1024 paths and {_many:.4f} for 16384.",
        wrong=f"That many shrink the bar by √{_ratio:.0f} = {np.sqrt(_ratio):.1f}.",
    )
    return


@app.cell
def _():
    _step = show_source(bridge.NoisyResidual._add, first='scale == "additive"', last="return torch.add")
    _mean = show_source(bridge.FeynmanKacMean.forward, first="draws = self.draws", last="return mean")
    closing("noise_makes_euler_maruyama", "The noise of a block, and the average over draws of it:", _step, _mean)
    return


if __name__ == "__main__":
    app.run()
