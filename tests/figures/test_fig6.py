"""Figure 6: images, attacks and answers against forward passes and a step of our own; the picture; errors."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from figures import _runs, fig6
from nets.attacks._decisions import N_DRAWS


@pytest.fixture(scope="module")
def data(quick_runs):
    return fig6.compute(quick=True, seed=0, runs=quick_runs)


@pytest.fixture(scope="module")
def plain(quick_runs):
    return _runs.find(quick_runs, fig6.WANTED)["plain"][0]


def first(array):
    """Images as a network takes them."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))


def made_up(**changed):
    """Two images, one answered rightly, of two colours; the second attack does nothing."""
    images = np.full((2, 4, 4, 3), 0.5)
    adversarial = np.stack([images + 0.1, images, images - 0.05, images])
    data = {
        "model": np.array(["resnet20", "en2_resnet20"]), "how": np.array(["training of one kind"] * 2),
        "run": np.array(["a", "b"]), "n_draws": np.array([1.0, 20.0]), "classes": np.array(["cat", "dog", "frog"]),
        "encoding": np.array("raw"), "place": np.array([7.0, 3.0]), "label": np.array([1.0, 2.0]), "images": images,
        "natural_prediction": np.array([[1.0, 0.0], [1.0, 2.0]]), "natural_probability": np.full((2, 2), 0.75),
        "attack": np.array(["IFGSM^20", "C-W"] * 2), "attacked": np.array([0.0, 0.0, 1.0, 1.0]),
        "n_eot": np.array([1.0, 1.0, 5.0, 5.0]), "adversarial": adversarial,
        "prediction": np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0], [1.0, 2.0]]), "probability": np.full((4, 2), 0.5),
        "change": np.array([[0.1, 0.1], [0, 0], [0.05, 0.05], [0, 0]]), "eps": np.array(8 / 255),
    }  # fmt: skip
    return data | changed


def test_the_images_are_those_of_the_set(data, plain):
    images = _runs.load_data(plain)
    places = data["place"].astype(int)
    assert len(set(places.tolist())) == fig6.N_IMAGES
    assert torch.equal(first(data["images"]), images.test_images[places].float() / images.white)
    assert data["label"].astype(int).tolist() == images.test_labels[places].tolist()
    assert data["classes"].tolist() == [str(number) for number in range(10)]


class Threshold(torch.nn.Module):
    """Class 0 where the pixel is above a threshold, with a margin that grows with it."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        z = 10 * (x.flatten(1) - self.threshold)
        return torch.cat([z, -z], dim=1)


@pytest.mark.parametrize(
    ("pixels", "places"),
    [
        # Above both thresholds, 76 and 128 of 255, the least first; then, of those below one, the nearest.
        ([250, 140, 20, 130, 200, 160, 100, 90], [3, 1, 5, 4]),
        ([250, 140, 20, 100, 10, 90], [1, 0, 5, 3]),
    ],
)
def test_the_default_images_are_those_that_both_models_classify_correctly_with_the_smallest_margins(pixels, places):
    images = torch.tensor(pixels, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    dataset = SimpleNamespace(test_images=images, test_labels=torch.zeros(len(images), dtype=torch.long), white=255)
    chosen = fig6._nearest([Threshold(0.3), Threshold(0.5)], dataset, 5, 0)
    n_right = sum(pixel > 128 for pixel in pixels)
    assert chosen[:n_right][: len(places)] == places[:n_right]
    assert len(chosen) == fig6.N_IMAGES
    assert not set(chosen[n_right:]) & set(places[:n_right])


def test_predictions_are_those_of_the_model_attacked(data, plain):
    model = plain.load()
    with torch.no_grad():
        natural = model(first(data["images"])).softmax(1).max(1)
        assert natural.indices.tolist() == data["natural_prediction"][0].astype(int).tolist()
        for row in range(2):
            best = model(first(data["adversarial"][row])).softmax(1).max(1)
            assert data["attacked"][row] == 0
            assert best.indices.tolist() == data["prediction"][row].astype(int).tolist()
            # Batch normalisation is folded into its neighbours there, not here: float32, some hundred operations deep.
            assert np.allclose(best.values, data["probability"][row], atol=1e-4)
    # Of the noisy one a single draw would be luck.
    assert data["n_draws"][0] == 1
    assert data["n_draws"][1] >= N_DRAWS


def test_attacks_stay_in_the_ball_and_raise_the_loss(data, plain):
    eps = float(data["eps"])
    assert eps == plain.config["recipe"]["eps"]
    change = np.abs(data["adversarial"].astype(float) - data["images"].astype(float)).max(axis=(2, 3, 4))
    assert np.allclose(data["change"], change, atol=0)
    assert data["attack"].tolist() == ["IFGSM^20", "C-W"] * 2
    assert (data["adversarial"] >= 0).all()
    assert (data["adversarial"] <= 1).all()
    # Twenty steps of a quarter reach the ball's edge; the last digit is float32's.
    assert np.allclose(change[[0, 2]], eps, rtol=1e-5)
    # 50 steps in u of 6e-4 or less, but for Adam's momentum, twice which is beyond it, and |dx/du| <= 1/2.
    assert (change[[1, 3]] < 50 * 6e-4).all()
    label = torch.from_numpy(data["label"]).long()
    model = plain.load()
    with torch.no_grad():
        natural = torch.nn.functional.cross_entropy(model(first(data["images"])), label, reduction="none")
        attacked = torch.nn.functional.cross_entropy(model(first(data["adversarial"][0])), label, reduction="none")
    assert (attacked > natural).all()


def test_ifgsm_is_the_papers_loop(data, plain):
    """(3.3), written anew, of the network that draws nothing."""
    model, x = plain.load(), first(data["images"])
    label, eps = torch.from_numpy(data["label"]).long(), float(data["eps"])
    x_adv = x.clone()
    for _ in range(20):
        x_adv.requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(x_adv), label, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = (x_adv.detach() + eps / 4 * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    # Where the gradient is nearly zero its sign is decided by the order of summation: of few pixels.
    assert ((x_adv - first(data["adversarial"][0])).abs() > 1e-5).float().mean() < 0.02


def test_a_seed_decides_the_noise_and_nothing_else(data, quick_runs, monkeypatch):
    monkeypatch.setattr(fig6.attacks, "cw", partial(fig6.attacks.cw, n_iter=5))
    place = [str(int(data["place"][0]))]
    one, same, other = (fig6.compute(quick=True, seed=seed, runs=quick_runs, images=place) for seed in (0, 0, 1))
    for key, array in one.items():
        assert np.array_equal(array, same[key]), key
    # The plain network draws nothing.
    assert np.array_equal(one["adversarial"][:2], other["adversarial"][:2])
    assert not np.array_equal(one["adversarial"][2:], other["adversarial"][2:])


def test_findings_say_which_attacks_failed():
    found = fig6.findings(made_up())
    assert found["labels"] == ["dog", "frog"]
    assert found["images"] == [7, 3]
    attacks = found["attacks"]
    assert attacks["IFGSM^20 against resnet20"]["deceived"] == [True, True]
    assert attacks["C-W against en2_resnet20"]["n_deceived"] == 0
    assert attacks["IFGSM^20 against resnet20"]["largest_change_in_255ths"] == pytest.approx([25.5, 25.5])
    assert found["models"]["resnet20"]["predictions"] == ["dog", "cat"]


def test_the_picture_says_what_happened():
    figure = fig6.plot(made_up())
    left, right = figure.subfigs
    texts = [axes.get_xlabel() for axes in left.axes]
    assert texts[0] == "dog\nplain: dog 0.75\nEn2: dog 0.75"
    assert texts[1:5] == [
        "p(cat) = 0.50\ndeceived", "p(dog) = 0.50\nstill right",
        "p(frog) = 0.50\ndeceived", "p(dog) = 0.50\nstill right",
    ]  # fmt: skip
    assert texts[5] == "frog\nplain: cat 0.75\nEn2: frog 0.75"
    # The plain network was wrong about the second image before, the noisy one was not.
    assert texts[6:] == ["p(cat) = 0.50\nwrong before"] * 2 + [
        "p(dog) = 0.50\ndeceived", "p(frog) = 0.50\nstill right"
    ]  # fmt: skip
    colours = [axes.spines["left"].get_edgecolor()[:3] for axes in left.axes[1:3]]
    assert colours[0] != colours[1]
    shown = [axes.images[0].get_array() for axes in right.axes]
    # One scale: the greatest change is white, half of it, downwards, a quarter, none is grey.
    for panel, value in zip(shown, (1.0, 0.5, 0.25, 0.5), strict=False):
        assert np.allclose(panel, value)
    assert next(axes.get_xlabel().split() for axes in right.axes) == ["max", "|δ|", "=", "25.50/255"]


def test_grey_images_are_drawn_grey():
    grey = made_up()
    changed = {"images": grey["images"][..., :1], "adversarial": grey["adversarial"][..., :1]}
    figure = fig6.plot(grey | changed)
    assert figure.subfigs[0].axes[0].images[0].get_array().shape == (4, 4)
    assert fig6.WHITE == 255


def test_command_writes_files_and_replot_draws_the_same_picture(tmp_path, monkeypatch, check_command):
    monkeypatch.setattr(fig6, "compute", lambda *, images, **_: made_up(place=np.array([float(i) for i in images])))
    record, _, _ = check_command(fig6, "--images", 5, 6, "--runs", tmp_path)
    assert record["images"] == [5, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        (["--images"], "--images must be 1 to 6 different indices of test images, 0 to 359, got ''"),
        (["--images", "1", "1"], "0 to 359, got '1 1'"),
        (["--images", "360"], "0 to 359, got '360'"),
        (["--images", "one"], "0 to 359, got 'one'"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, message, quick_runs, tmp_path, refused):
    assert message in refused(fig6.main, *arguments, "--runs", quick_runs, "--out", tmp_path / "new")


def test_without_an_ensemble_the_message_names_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"lacks finished runs .* python -m nets.train cpu/en2_resnet20"):
        fig6.compute(runs=tmp_path)
