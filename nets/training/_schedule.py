"""Learning rates over a training, and whether a started run may be resumed with another schedule."""

import bisect
from dataclasses import replace

# Number of steps per epoch when schedules are compared; fields that may differ when a run is resumed.
N_PER_EPOCH = 100
SCHEDULE = ("epochs", "milestones")


def learning_rate(recipe, step, n_steps):
    """Return the learning rate of a step, from 0, of the n_steps of the whole training.

    steps:   lr decay**k, k the number of milestones <= t                                        (paper: section 4.1)
    cyclic:  lr min(t / peak, (1 - t) / (1 - peak))                                              (Wong et al. 2020)

    t = (step + 1/2) / n_steps is the step's middle in units of the whole training.
    """
    t = (step + 0.5) / n_steps
    if recipe.schedule == "cyclic":
        return recipe.lr * min(t / recipe.peak, (1 - t) / (1 - recipe.peak))
    return recipe.lr * recipe.decay ** bisect.bisect_right(recipe.milestones, t)


def average_decay(recipe, n_done):
    """Return the factor of the moving average after n_done steps."""
    return min(recipe.average, (1 + n_done) / (10 + n_done))


def by_schedule_of(recipe, record):
    """Return the recipe with the schedule of a record, a dict that may lack fields that came later."""
    milestones = tuple(record.get("milestones", recipe.milestones))
    return replace(recipe, epochs=record.get("epochs", recipe.epochs), milestones=milestones)


def changes(recipe, before):
    """List the fields of the schedule in which a recipe differs from an earlier one."""
    pairs = [(name, getattr(before, name), getattr(recipe, name)) for name in SCHEDULE]
    return [f"{name} was {old} and is {new}" for name, old, new in pairs if old != new]


def reason_not_to_resume(recipe, before, n_done):
    """Return why a run of the recipe `before` with n_done epochs cannot be resumed by this recipe, or None.

    It can be resumed if the learning rates of the finished epochs are those of this recipe.
    """
    if recipe.epochs < n_done:
        return f"{n_done} epochs are finished"
    changed = _first_change(recipe, before, n_done)
    if changed is None:
        return None
    reason = f"with schedule={recipe.schedule}, the finished epoch {changed} would have had another rate"
    kept = tuple(milestone * before.epochs / recipe.epochs for milestone in before.milestones)
    if recipe.schedule == "steps" and all(milestone < 1 for milestone in kept):
        reason += f"; it keeps its rate by --milestones {' '.join(f'{milestone:.6g}' for milestone in kept)}"
    return reason


def _first_change(recipe, before, n_done):
    """Return the first finished epoch whose learning rates differ, or None."""
    # Milestones are fractions of the training: a fine grid of steps serves any number of steps per epoch.
    for step in range(n_done * N_PER_EPOCH):
        rates = [learning_rate(each, step, each.epochs * N_PER_EPOCH) for each in (before, recipe)]
        if abs(rates[0] - rates[1]) > 1e-12 * rates[0]:
            return step // N_PER_EPOCH + 1
    return None
