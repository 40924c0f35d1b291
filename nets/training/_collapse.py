"""The collapse of adversarial training by one step: catastrophic overfitting, seen before it is trained to the end.

The network learns to hide from the attack that it is trained with: its accuracy under that attack keeps rising, under
an attack of several steps it falls to nothing. Within an epoch or two, and seldom back (Wong et al. 2020, section 5.4).
"""

import math

__all__ = ["CollapseError", "check_collapse"]

# On 500 validation images and the curves of eight trainings: those that collapsed were found within an epoch of the
# first accuracy under 10 %; robust overfitting, from 50 % to 43 % say, is not a collapse.
SHARE_OF_TRAINING, SHARE_OF_BEST, N_EPOCHS = 1 / 2, 3 / 4, 2


class CollapseError(ArithmeticError):
    """Adversarial training collapsed."""


def check_collapse(history, n_validation):
    """Raise an error if the latest epochs are those of a collapse.

    In each of the last two epochs the accuracy v on validation images, under PGD, is less than half of the accuracy on
    training images under the attack of the training, by two standard errors of v; the latter has risen, and v has
    fallen below 3/4 of its best.

    Parameters
    ----------
    history : list of dict
        Lines of the metrics: "epoch", "accuracy" and "validation_adversarial".
    n_validation : int
        Images validated on.

    Raises
    ------
    CollapseError
        If so; the message says what to change.
    """
    last = history[-N_EPOCHS:]
    if len(last) == N_EPOCHS and _has_fallen(history) and all(_is_low(row, n_validation) for row in last):
        first, now = last[0], last[-1]
        raise CollapseError(
            f"the training collapsed by epoch {now['epoch']}: under the attack it trains with it has "
            f"{now['accuracy']:.1%}, under PGD on validation images {now['validation_adversarial']:.1%} (epoch "
            f"{first['epoch']}: {first['accuracy']:.1%} and {first['validation_adversarial']:.1%}): give another "
            "--seed, a smaller --lr, or more steps per image by --fast-n-iter 2 --fast-step 0.625"
        )


def _has_fallen(history):
    now, best = history[-1], max(row["validation_adversarial"] for row in history)
    return now["validation_adversarial"] <= SHARE_OF_BEST * best and now["accuracy"] > history[0]["accuracy"]


def _is_low(row, n):
    # A success and a failure more, so that 0 of 20 is not known exactly.
    v = (n * row["validation_adversarial"] + 1) / (n + 2)
    return v + 2 * math.sqrt(v * (1 - v) / n) < SHARE_OF_TRAINING * row["accuracy"]
