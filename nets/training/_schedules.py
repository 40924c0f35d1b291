"""The learning rate as a function of how much of the training is done."""

import bisect

__all__ = ["learning_rate"]


def learning_rate(recipe, step, n_steps):
    """Return the learning rate of a step.

    steps:   lr decay**k, k the number of milestones <= t                                        (paper: section 4.1)
    cyclic:  lr min(t / peak, (1 - t) / (1 - peak))                                              (Wong et al. 2020)

    t = (step + 1/2) / n_steps is the step's middle in units of the whole training.

    Parameters
    ----------
    recipe : Recipe
        Gives schedule, lr, milestones, decay and peak.
    step : int
        From 0, through all epochs.
    n_steps : int
        Of the whole training.

    Returns
    -------
    float
    """
    t = (step + 0.5) / n_steps
    if recipe.schedule == "cyclic":
        return recipe.lr * min(t / recipe.peak, (1 - t) / (1 - recipe.peak))
    return recipe.lr * recipe.decay ** bisect.bisect_right(recipe.milestones, t)
