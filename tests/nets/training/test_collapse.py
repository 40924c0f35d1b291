"""When a training counts as collapsed: curves of trainings that did, and of those that did not."""

import pytest

from nets.training import CollapseError, check_collapse

# Percent: under the attack of the training, and under PGD-10 on 500 validation images, epoch by epoch.
COLLAPSED = [
    ([13, 26, 35, 50, 65, 49], [12.2, 9.4, 8.0, 0.0, 8.2, 2.8], 3),
    ([14, 29, 38, 50, 40], [8.2, 4.2, 2.6, 1.8, 24.2], 3),
]
SOUND = [
    ([13, 22, 25, 28, 30], [21.0, 21.0, 26.0, 27.8, 28.2]),
    ([11, 22, 26, 27, 30, 32, 34, 35], [17.0, 25.8, 23.4, 25.6, 29.0, 27.6, 29.0, 27.8]),
    ([12, 20, 24, 26, 28, 29], [16.4, 21.6, 22.6, 25.8, 25.2, 28.4]),
    ([14, 26, 31, 33], [11.2, 15.4, 14.6, 19.0]),
    # Robust overfitting of a large network, after its rate has fallen.
    ([40, 55, 70, 85, 95], [45.0, 52.0, 48.0, 45.0, 43.0]),
]


def history(training, validation):
    rows = zip(training, validation, strict=True)
    return [{"epoch": k, "accuracy": a / 100, "validation_adversarial": v / 100} for k, (a, v) in enumerate(rows, 1)]


@pytest.mark.parametrize(("training", "validation", "epoch"), COLLAPSED)
def test_collapse_is_found_by_its_third_epoch(training, validation, epoch):
    rows = history(training, validation)
    for k in range(epoch):
        check_collapse(rows[:k], 500)
    with pytest.raises(CollapseError, match=f"collapsed by epoch {epoch}: .* give another --seed"):
        check_collapse(rows[:epoch], 500)


@pytest.mark.parametrize(("training", "validation"), SOUND)
def test_sound_training_is_never_stopped(training, validation):
    rows = history(training, validation)
    for k in range(len(rows) + 1):
        check_collapse(rows[:k], 500)


def test_a_few_validation_images_prove_nothing():
    check_collapse(history([13, 15, 17], [12.0, 5.0, 5.0]), 20)


@pytest.mark.parametrize("validation", [[0.0, 0.0, 0.0], [0.4, 0.0, 0.2], [1.0, 0.6, 0.4]])
def test_what_never_rose_above_its_error_has_not_fallen(validation):
    # A hard start: many classes, or a large radius.
    rows = history([1.2, 3.0, 6.0], validation)
    for k in range(len(rows) + 1):
        check_collapse(rows[:k], 500)
