"""Measurements and pictures of lesson 5, on a trained row of blocks: paths, slopes, and steps of other lengths."""

import copy

import numpy as np
import torch

import bridge
from lessons._drawing import BLUE, GREEN, GREY, RED, new_figure

__all__ = ["coarsened", "draw_refinement", "draw_steps", "largest_slopes", "noiseless", "other_steps"]

# Blocks left out, and parts of a block.
STRIDES, PARTS = (8, 4, 2), (1, 2, 4, 8, 16, 32, 64, 128, 256)


def noiseless(network):
    """Switch off the noise of a network from `ResNetSDE.refined`; its blocks are new, so no other network changes."""
    for block in network.blocks:
        block.enabled = False
    return network


def coarsened(blocks, stride):
    """Take every stride-th block, with a step stride times as long and no noise: the same time in fewer steps.

    x -> x + (stride dt) F(x)
    """
    return bridge.ResidualNetwork(
        bridge.NoisyResidual(block.branch, dt=stride * block.dt, noise=None) for block in blocks[::stride]
    )


@torch.no_grad()
def other_steps(net, states, y):
    """Follow the paths with longer and shorter steps than the trained one, without noise, in double precision.

    Returns the steps, 8 to 1/256 of the trained one; the median over the paths of the distance of their ends to the
    limit, relative to its size; and the shares of labels found. The number of blocks is a multiple of 8.
    """
    blocks, states, output = (copy.deepcopy(part).double() for part in (net.blocks, states, net.output))
    sde = bridge.ResNetSDE(blocks)
    networks = [coarsened(blocks, stride) for stride in STRIDES] + [noiseless(sde.refined(n)) for n in PARTS]
    ends = [network(states) for network in networks]
    # With an error of C / k the limit is as far again: Richardson's extrapolation.
    limit = 2 * ends[-1] - ends[-2]
    errors = [float(((end - limit).norm(dim=1) / limit.norm(dim=1)).median()) for end in ends]
    shares = [float((output(end).argmax(1) == y).float().mean()) for end in ends]
    return [*STRIDES, *(1 / n for n in PARTS)], errors, shares


def largest_slopes(blocks, path):
    """Return the largest singular value of dt times each branch's Jacobian over the states that reach it: (n_blocks,).

    path (n_blocks + 1, n, d) has the states before and after each block. A lower estimate of dt Lip(F).
    """
    slopes = []
    for block, states in zip(blocks, path[:-1], strict=True):
        jacobians = torch.vmap(torch.func.jacrev(block.branch))(states)
        slopes.append(block.dt * torch.linalg.matrix_norm(jacobians, ord=2).max())
    return torch.stack(slopes)


def draw_steps(path, fine, y, sizes, slopes, sigma, k):
    """Draw the paths in the plane of their two principal directions, the relative steps, and sigma over time.

    path (n_blocks + 1, n, d); fine (k n_blocks + 1, n, d), each block in k parts; sizes and sigma (n_blocks, n).
    """
    figure, (left, middle, right) = new_figure(3, width=10.5, height=3.9)
    middle_of_all = path.flatten(0, 1).mean(dim=0)
    axes_of_all = torch.linalg.svd(path.flatten(0, 1) - middle_of_all, full_matrices=False).Vh[:2].T
    flat, flat_fine = ((part - middle_of_all) @ axes_of_all for part in (path, fine))
    for label, colour, marker in ((0, RED, "o"), (1, BLUE, "^")):
        for i in (y == label).nonzero().flatten()[:9]:
            left.plot(*flat_fine[:, i].T, color=colour, lw=0.8, marker="." if k == 1 else None, ms=3)
            left.plot(*flat_fine[-1, i], marker, color=colour, ms=5)
            if k > 1:
                left.plot(*flat[-1, i], marker, mec=GREY, mfc="none", ms=5)
    left.set(xlabel="first principal direction", ylabel="second")
    left.set_title("paths of the states" if k == 1 else f"blocks in {k} parts (grey: ends before)")
    layers = np.arange(1, len(slopes) + 1)
    middle.plot(layers, slopes, "s-", color=RED, label="Δt Lip(F)")
    middle.plot(layers, sizes.median(dim=1).values, "o-", color=BLUE, label="|Δt F(x)| / |x|, median")
    middle.axhline(2, color=GREY, ls="--", label="2: beyond, Euler may diverge")
    middle.set(xlabel="block l", yscale="log", title="size of the steps", xticks=layers)
    middle.margins(y=0.6)
    middle.legend(loc="upper left")
    low, median, high = torch.quantile(sigma, torch.tensor([0.1, 0.5, 0.9]), dim=1)
    time = (layers - 1) / len(layers)
    right.fill_between(time, low, high, color=GREEN, alpha=0.3, label="10–90 % of the inputs")
    right.plot(time, median, "o-", color=GREEN, label="median")
    right.set(xlabel="t (T = 1)", ylabel="σ  (state / time$^{1/2}$)", title="effective σ(t)")
    right.margins(y=0.3)
    right.set_ylim(bottom=0)
    right.legend()
    return figure


def draw_refinement(steps, errors, shares, marked):
    """Draw the distance of the ends to the limit, and the share of correct predictions, over the step."""
    figure, (left, right) = new_figure(2, width=10, height=3.6)
    steps = np.array(steps)
    left.loglog(steps, errors, "o-", color=BLUE, label="measured, median")
    left.loglog(steps[3:], errors[-1] * steps[3:] / steps[-1], "--", color=GREY, label="order 1")
    left.set(ylabel="distance to the limit / |limit|", title="ends of the paths")
    right.semilogx(steps, shares, "o-", color=BLUE)
    right.axhline(0.5, color=GREY, ls="--", label="by chance")
    right.set(ylabel="share right", ylim=(0.3, 1.05), title="predictions")
    for axes in (left, right):
        axes.axvline(1, color=GREEN, lw=2.5, alpha=0.6, label="as trained")
        axes.axvline(marked, color=RED, lw=1.5, ls="--", label=f"chosen: {marked:g}")
        axes.set(xlabel="step, in units of the trained one")
    left.legend(loc="lower right")
    right.legend(loc="upper left")
    return figure
