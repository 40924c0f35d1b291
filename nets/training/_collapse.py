"""The collapse of one-step adversarial training, catastrophic overfitting, detected while training.

The network learns to hide from the attack of its training: its accuracy under that attack keeps rising, while under an
attack of several steps it falls to zero within an epoch or two, and rarely recovers (Wong et al. 2020, section 5.4).
"""

import math

__all__ = ["CollapseError", "check_collapse"]

# On 500 validation images of eight trainings, every collapse was detected within an epoch of the first accuracy below
# 10 %; robust overfitting, for example from 50 % to 43 %, is not a collapse.
SHARE_OF_TRAINING, SHARE_OF_BEST, N_EPOCHS = 1 / 2, 3 / 4, 2


class CollapseError(ArithmeticError):
    """Adversarial training collapsed."""


def check_collapse(history, n_validation):
    """Raise an error if the last epochs show a collapse.

    A collapse is detected if, in each of the last two epochs, the accuracy v on validation images under PGD plus two of
    its standard errors is less than half of the accuracy on training images under the attack of the training, and if
    since the start the latter has risen, and v has fallen below 3/4 of its best, by more than two standard errors.

    Parameters
    ----------
    history : list of dict
        Metrics of the epochs: "epoch", "accuracy" and "validation_adversarial".
    n_validation : int
        Number of validation images.

    Raises
    ------
    CollapseError
        If the training collapsed; the message advises what to change.
    """
    last = history[-N_EPOCHS:]
    if len(last) == N_EPOCHS and _has_fallen(history, n_validation) and all(_is_low(row, n_validation) for row in last):
        first, now = last[0], last[-1]
        raise CollapseError(
            f"the training collapsed by epoch {now['epoch']}: accuracy {now['accuracy']:.1%} under the attack of the "
            f"training, {now['validation_adversarial']:.1%} under PGD on validation images (epoch "
            f"{first['epoch']}: {first['accuracy']:.1%} and {first['validation_adversarial']:.1%}): give another "
            "--seed, a smaller --lr, or more steps per image by --fast-n-iter 2 --fast-step 0.625"
        )


def _has_fallen(history, n):
    now, best = history[-1]["validation_adversarial"], max(row["validation_adversarial"] for row in history)
    # Accuracies that never left 0 have not fallen.
    (p, p_error), (q, q_error) = _with_error(now, n), _with_error(best, n)
    fallen = now < SHARE_OF_BEST * best and q - p > 2 * math.hypot(p_error, q_error)
    return fallen and history[-1]["accuracy"] > history[0]["accuracy"]


def _is_low(row, n):
    v, stderr = _with_error(row["validation_adversarial"], n)
    return v + 2 * stderr < SHARE_OF_TRAINING * row["accuracy"]


def _with_error(accuracy, n):
    # One more success and one more failure, so that 0 of 20 has a standard error.
    v = (n * accuracy + 1) / (n + 2)
    return v, math.sqrt(v * (1 - v) / n)
