"""The pictures of lesson 4: decision regions in the square, and accuracy against the number of draws."""

import contextlib
import warnings

import numpy as np
import torch

import bridge
import nets
from lessons._drawing import BLUE, GREY, RED, new_figure
from lessons._planar import noise_scaled
from nets.proportions import paired_stderr

__all__ = [
    "accuracy",
    "draw_regions",
    "draw_shares",
    "is_right",
    "logit_differences",
    "one_draw_allowed",
    "paired_difference",
]


def accuracy(model, x, y, n_draws):
    """Return the share of points x (n, 2) whose mean output over n_draws draws is in the class y (n,)."""
    return float(is_right(model, x, y, n_draws).mean())


def is_right(model, x, y, n_draws):
    """Tensor of shape (n,): 1 where the mean output over n_draws draws is right, otherwise 0; see `accuracy`."""
    with bridge.noise_from(model, torch.Generator().manual_seed(0)):
        return (nets.attacks.mean_logits(model, x, n_draws).argmax(1) == y).float()


def paired_difference(first, second):
    """(mean, standard error) of first - second, paired on the same inputs."""
    difference = first - second
    return float(difference.mean()), paired_stderr(difference)


@contextlib.contextmanager
def one_draw_allowed():
    """Switch off the warning that attacks on a noisy model see one draw per step: here that is what is shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nets.attacks.NoisyModelWarning)
        yield


@torch.no_grad()
def logit_differences(model, point, coef, n, seed):
    """Return the difference of the two logits at one point (2,) in n draws of noise `coef`: shape (n,).

    Its blocks must scale the noise by each state alone, so that one batch is n independent draws.
    """
    with noise_scaled(model, coef), bridge.noise_from(model, torch.Generator().manual_seed(seed)):
        return model(point.expand(n, 2)).diff(dim=1).flatten()


def draw_regions(model, x, y, cases):
    """Draw the softmax of the mean output over the square, one panel per case, with the first points on it.

    A case is (title, noise a, number of draws). Returns the figure, and a text with the titles and the shares of
    x (n, 2) in their class y (n,).
    """
    side = np.linspace(0, 1, 81)
    square = torch.tensor(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), dtype=torch.float32)
    (figure, panels), titles = new_figure(len(cases), width=10.5, height=3.9), []
    for axes, (name, coef, n_draws) in zip(panels, cases, strict=True):
        with noise_scaled(model, coef), bridge.noise_from(model, torch.Generator().manual_seed(1)):
            logits = nets.attacks.mean_logits(model, square, n_draws)
            titles.append(f"{name}: {accuracy(model, x, y, n_draws):.1%} right")
        # Orange and purple are distinguishable with every kind of colour blindness; white is the boundary.
        chance = logits.softmax(1)[:, 1].reshape(len(side), len(side))
        axes.pcolormesh(side, side, chance, cmap="PuOr", vmin=0, vmax=1, shading="nearest", rasterized=True)
        for label, marker, colour in ((0, "o", RED), (1, "^", BLUE)):
            points = x[:160][y[:160] == label]
            axes.plot(*points.T, marker, mfc=colour, mec="white", mew=0.5, ms=4.5)
        axes.set(xlabel="x", aspect="equal", xlim=(0, 1), ylim=(0, 1), title=titles[-1])
    panels[0].set_ylabel("y")
    return figure, "; ".join(titles)


def draw_shares(counts, panels, n):
    """Draw shares of correct predictions of n points over numbers of draws, with their binomial standard errors.

    A panel is (title, what is drawn, one share per count).
    """
    figure, all_axes = new_figure(len(panels), width=10, height=3.3)
    for axes, (title, label, shares) in zip(all_axes, panels, strict=True):
        bars = np.sqrt(np.multiply(shares, 1 - np.array(shares)) / n)
        axes.errorbar(counts, shares, bars, fmt="o-", color=BLUE, capsize=3)
        axes.set(xscale="log", xlabel=label, ylabel="share right", xticks=counts, xticklabels=counts, title=title)
        axes.minorticks_off()
        axes.margins(y=0.3)
        axes.grid(color=GREY, alpha=0.3)
    return figure
