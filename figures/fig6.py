"""Figure 6: images, what two attacks make of them against a ResNet and against an EnResNet, and the residuals.

    x_(m) = Clip_(x, eps)[ x_(m-1) + alpha sign(grad_x L(x_(m-1), y)) ],  m = 1, ..., 20          IFGSM^20: (3.3)
    min_u ||x' - x||_inf + c max(-kappa, Z_y - max_{i != y} Z_i),  x' = (tanh(u) + 1) / 2         C&W: (3.5)

(a) Test images, and each after IFGSM^20 and after C&W as printed, of the plain and of the noisy model; below it the
class that the attacked model answers, and its probability. (b) The residuals x' - x on one scale, grey being 0, and
their maximum norm in units of 1/255. Eps is that of the training, alpha a quarter of it; of the noisy model a gradient
is the mean of 5 draws, an answer the softmax of the mean logits of 20. The images are attacked and answered as one
batch. The paper chose images for which all attacks succeed; here the first test images, in the order of the
evaluations, that both models answer rightly are taken, and it is said where an attack has failed.

--images I ... takes other test images, by their places in the set, 1 to 6 of them. Of the noisy models the one with
the most members is taken, of several seeds the first. Writes fig6.png, fig6.npz (the arrays) and fig6.json (arguments,
versions, seconds, answers) to --out. About half a minute on one core; --quick trains tiny networks on digits first.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from figures import _fig6_plot, _runs
from figures._cli import figure_command, sound_arrays
from figures._runs import Wanted
from nets import attacks, seeds
from nets import data as image_sets
from nets.attacks import attacked, is_noisy, mean_logits
from nets.evaluation import balanced_order

__all__ = ["compute", "findings", "main", "plot"]

WANTED = {
    "plain": Wanted(("resnet20", "resnet44", "resnet110")),
    "ensemble": Wanted(("en5_resnet20", "en2_resnet20", "en1_resnet20")),
}
ATTACKS = ("IFGSM^20", "C&W")
# Section 4: of a noisy model the paper averages the gradients of 5 draws. (3.3): of 8/255 and 2/255.
N_EOT, STEPS_A_RADIUS, N_ITER = 5, 4, 20
N_DRAWS = 20
# For --quick.
N_EOT_QUICK, N_DRAWS_QUICK = 2, 10
N_IMAGES, MOST = 4, 6
# The default images are sought among so many.
N_CANDIDATES = 100
TEXTS = ("model", "how", "run", "classes", "attack", "encoding")
COUNTS = ("place", "label", "natural_answer", "answer", "attacked", "n_draws", "n_eot")
# One letter for each axis; arrays with a letter in common have that length in common.
SHAPES = {
    "model": "m", "how": "m", "run": "m", "n_draws": "m", "classes": "k", "encoding": "", "place": "i", "label": "i",
    "images": "ihwc", "natural_answer": "mi", "natural_probability": "mi", "attack": "a", "attacked": "a",
    "n_eot": "a", "adversarial": "aihwc", "answer": "ai", "probability": "ai", "change": "ai", "eps": "",
}  # fmt: skip


def compute(*, quick=False, seed=0, runs=Path("runs"), data=None, images=None):
    """Attack the images.

    Parameters
    ----------
    quick : bool, default=False
        Fewer draws of the noisy model.
    seed : int, default=0
        Seed of the noise.
    runs : Path
        Directory of runs.
    data : str, optional
        Where their images lie; by default where they lay for the training.
    images : sequence of str or int, optional
        Places of test images; by default the first that both models answer rightly.

    Returns
    -------
    dict of str to ndarray
        `images` (i, h, w, c) and `adversarial` (a, i, h, w, c) in [0, 1]; `attack` and `attacked` (a,), the row of
        `model` (m,) that each is made against; `change` (a, i), max |x' - x|; `natural_answer` (m, i) and `answer`
        (a, i), classes, with their probabilities.

    Raises
    ------
    ValueError
        If seed is negative, images are not places in the test set, or there are no such runs.
    """
    if seed < 0:
        raise ValueError(f"--seed must be >= 0, got {seed}")
    n_eot, n_draws = (N_EOT_QUICK, N_DRAWS_QUICK) if quick else (N_EOT, N_DRAWS)
    chosen = [group[0] for group in _runs.find(runs, WANTED).values()]
    dataset = _runs.load_data(chosen[0], data)
    models = [run.load() for run in chosen]
    places = _first_right(models, dataset, n_draws, seed) if images is None else _places(images, dataset)
    x, y = image_sets.Batches(dataset.test_images, dataset.test_labels, dataset.white).take(torch.tensor(places))
    eps = chosen[0].config["recipe"]["eps"]
    made = {key: [] for key in ("attack", "attacked", "n_eot", "adversarial", "change", "answer", "probability")}
    natural, draws = [], []
    with tqdm(total=len(models) * len(ATTACKS), disable=None, desc="fig6", unit="attack") as bar:
        for row, model in enumerate(models):
            n_gradients, n_answers = (n_eot, n_draws) if is_noisy(model, x[:1]) else (1, 1)
            draws.append(float(n_answers))
            natural.append(_answers(model, x, n_answers, seed))
            for name, x_adv in _attacks(model, x, y, eps, n_gradients, seed):
                answer, probability = _answers(model, x_adv, n_answers, seed)
                change = (x_adv.double() - x.double()).abs().flatten(1).amax(1).numpy()
                values = (name, float(row), float(n_gradients), _last(x_adv), change, answer, probability)
                for key, value in zip(made, values, strict=True):
                    made[key].append(value)
                bar.update()
    return {key: np.array(values) for key, values in made.items()} | {
        "model": np.array([run.model_name for run in chosen]),
        "how": np.array([_runs.describe(run) for run in chosen]),
        "run": np.array([run.directory.name for run in chosen]),
        "n_draws": np.array(draws),
        "classes": np.array(dataset.classes),
        "encoding": np.array(dataset.encoding),
        "place": np.array(places, dtype=float),
        "label": y.double().numpy(),
        "images": _last(x),
        "natural_answer": np.array([answer for answer, _ in natural]),
        "natural_probability": np.array([probability for _, probability in natural]),
        "eps": np.array(float(eps)),
    }


def _places(images, dataset):
    n = len(dataset.test_images)
    try:
        places = [int(place) for place in images]
    except ValueError:
        places = []
    if not 1 <= len(places) <= MOST or len(set(places)) < len(places) or not all(0 <= place < n for place in places):
        given = " ".join(map(str, images))
        raise ValueError(f"--images must be 1 to {MOST} different places of test images, 0 to {n - 1}, got {given!r}")
    return places


def _first_right(models, dataset, n_draws, seed):
    """Places of the first images that all models answer rightly; where there are too few, of others after them."""
    order = balanced_order(dataset.test_labels, 0)[:N_CANDIDATES]
    x, y = image_sets.Batches(dataset.test_images, dataset.test_labels, dataset.white).take(order)
    right = torch.ones(len(order), dtype=torch.bool)
    for model in models:
        answer, _ = _answers(model, x, n_draws if is_noisy(model, x[:1]) else 1, seed)
        right &= torch.from_numpy(answer) == y
    return torch.cat([order[right], order[~right]])[:N_IMAGES].tolist()


def _attacks(model, x, y, eps, n_eot, seed):
    """Each attack's name and images, from noise of its own."""
    options = {"n_eot": n_eot}
    ifgsm = partial(attacks.ifgsm, eps=eps, step_size=eps / STEPS_A_RADIUS, n_iter=N_ITER)
    for name, attack in zip(ATTACKS, (ifgsm, attacks.cw), strict=True):
        yield name, attack(model, x, y, generator=seeds.make_generator(seed, f"attack {name}"), **options)


def _answers(model, x, n_draws, seed):
    """Classes and their probabilities, of the mean logits over the draws."""
    with attacked(model, generator=seeds.make_generator(seed, "noise of answers")):
        best = mean_logits(model, x, n_draws).double().softmax(1).max(1)
    return best.indices.double().numpy(), best.values.numpy()


def _last(x):
    """Images with their channels last, as they are drawn."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def findings(data):
    """Return what the JSON file says.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `images` of shape (i, h, w, c), and the rest.

    Returns
    -------
    dict
        Of each attack the answers, which of them are wrong, and the greatest change of a pixel in units of 1/255.
    """
    classes, label = data["classes"].tolist(), data["label"].astype(int)
    made = {}
    for row, name in enumerate(data["attack"].tolist()):
        model = data["model"][int(data["attacked"][row])]
        answer = data["answer"][row].astype(int)
        made[f"{name} against {model}"] = {
            "answers": [classes[k] for k in answer],
            "probabilities": data["probability"][row].tolist(),
            "deceived": (answer != label).tolist(),
            "n_deceived": int((answer != label).sum()),
            "largest_change_in_255ths": (255 * data["change"][row]).tolist(),
            "n_eot": int(data["n_eot"][row]),
        }
    return {
        "eps_in_255ths": float(255 * data["eps"]),
        "images": data["place"].astype(int).tolist(),
        "labels": [classes[k] for k in label],
        "n_images": len(label),
        "attacks": made,
        "models": {
            str(model): {
                "run": str(data["run"][row]),
                "training": str(data["how"][row]),
                "n_draws": int(data["n_draws"][row]),
                "answers": [classes[int(k)] for k in data["natural_answer"][row]],
                "probabilities": data["natural_probability"][row].tolist(),
            }
            for row, model in enumerate(data["model"].tolist())
        },
    }


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    figure_command(
        "fig6", __doc__, argv, compute=compute, plot=plot, findings=findings, shapes=SHAPES, sound=_sound, of_runs=True,
        options={"images": {"nargs": "*", "metavar": "I", "help": "places of test images (default: four chosen)"}},
    )  # fmt: skip


def _sound(data, path):
    """The data, if they are such as `compute` returns."""
    sizes = {"attacked": "model", "label": "classes", "natural_answer": "classes", "answer": "classes"}

    def is_sound(key, array):
        if key in TEXTS:
            return array.dtype.kind == "U"
        if array.dtype.kind != "f" or not np.isfinite(array).all() or (array < 0).any():
            return False
        if key in COUNTS:
            return (array == np.round(array)).all() and (key not in sizes or (array < data[sizes[key]].size).all())
        return (array <= 1).all()

    return sound_arrays(data, path, SHAPES, is_sound, fault="wrong shape or kind, or out of range")


def plot(data):
    """Draw the images and the residuals.

    Parameters
    ----------
    data : dict of str to ndarray
        As from `compute`: `images` of shape (i, h, w, c), and the rest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _fig6_plot.panels(data)


if __name__ == "__main__":
    main()
