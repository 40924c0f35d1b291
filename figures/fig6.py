"""Figure 6: images, their adversarial versions by two attacks on a ResNet and on an EnResNet, and the residuals.

    x_(m) = Clip_(x, eps)[ x_(m-1) + alpha sign(grad_x L(x_(m-1), y)) ],  m = 1, ..., 20          IFGSM^20: (3.3)
    min_u ||x' - x||_inf + c max(-kappa, Z_y - max_{i != y} Z_i),  x' = (tanh(u) + 1) / 2         C-W: (3.5)

(a) Test images, and each after IFGSM^20 and after C-W as printed, against the plain and against the noisy model; below
it the class that the attacked model predicts, and its probability. (b) The residuals x' - x on one scale, grey being 0,
and their maximum norm in units of 1/255. Eps is that of the training, alpha a quarter of it; for the noisy model a
gradient is the mean of 5 draws, a prediction the softmax of the mean logits of 20. The images are attacked and
predicted as one batch. The paper chose images for which all attacks succeed; here those that both models classify
correctly with the smallest margins are taken, of the first 100 in the order of the evaluations, and the picture
marks where an attack has failed.

--images I ... selects 1 to 6 other test images by their indices in the set. The noisy model is the one with the most
members, and of several seeds the first is used. About half a minute on one core, somewhat less with --quick.
"""

from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from figures import _runs
from figures._cli import make_main
from figures._runs import Wanted
from figures._style import BLACK, BLUE, RED, label
from nets import attacks, seeds
from nets import data as image_sets
from nets.attacks import attacked, is_noisy, mean_logits
from nets.evaluation import balanced_order

__all__ = ["compute", "findings", "main", "plot"]

WANTED = {
    "plain": Wanted(("resnet20", "resnet44", "resnet110")),
    "ensemble": Wanted(("en5_resnet20", "en2_resnet20", "en1_resnet20")),
}
ATTACKS = ("IFGSM^20", "C-W")
# Section 4: the paper averages the gradients of a noisy model over 5 draws; (3.3): radius 8/255, step 2/255.
N_EOT, STEPS_PER_RADIUS, N_ITER = 5, 4, 20
N_DRAWS = 20
# For --quick.
N_EOT_QUICK, N_DRAWS_QUICK = 2, 10
N_IMAGES, MOST = 4, 6
# Number of images among which the default images are selected.
N_CANDIDATES = 100
TITLES = {"IFGSM^20": "IFGSM$^{20}$", "C-W": "C-W"}
WHITE = 255


def compute(*, quick=False, seed=0, runs=None, data=None, images=None):
    """`images` (i, h, w, c) and `adversarial` (a, i, h, w, c) in [0, 1], `change` (a, i); predictions."""
    n_eot, n_draws = (N_EOT_QUICK, N_DRAWS_QUICK) if quick else (N_EOT, N_DRAWS)
    chosen = [group[0] for group in _runs.find(runs, WANTED).values()]
    dataset = _runs.load_data(chosen[0], data)
    models = [run.load() for run in chosen]
    places = _nearest(models, dataset, n_draws, seed) if images is None else _places(images, dataset)
    x, y = image_sets.Batches(dataset.test_images, dataset.test_labels, dataset.white).take(torch.tensor(places))
    eps = chosen[0].config["recipe"]["eps"]
    made = {key: [] for key in ("attack", "attacked", "n_eot", "adversarial", "change", "prediction", "probability")}
    natural, draws = [], []
    with tqdm(total=len(models) * len(ATTACKS), disable=None, desc="fig6", unit="attack") as bar:
        for row, model in enumerate(models):
            n_gradients, n_used = (n_eot, n_draws) if is_noisy(model, x[:1]) else (1, 1)
            draws.append(float(n_used))
            natural.append(_predictions(model, x, n_used, seed))
            for name, x_adv in _attacks(model, x, y, eps, n_gradients, seed):
                prediction, probability = _predictions(model, x_adv, n_used, seed)
                change = (x_adv.double() - x.double()).abs().flatten(1).amax(1).numpy()
                values = (name, float(row), float(n_gradients), _last(x_adv), change, prediction, probability)
                for key, value in zip(made, values, strict=True):
                    made[key].append(value)
                bar.update()
    return {key: np.array(values) for key, values in made.items()} | {
        "model": np.array([run.model_name for run in chosen]),
        "how": np.array([_runs.describe(run) for run in chosen]),
        "run": np.array([run.name for run in chosen]),
        "n_draws": np.array(draws),
        "classes": np.array(dataset.classes),
        "encoding": np.array(dataset.encoding),
        "place": np.array(places, dtype=float),
        "label": y.double().numpy(),
        "images": _last(x),
        "natural_prediction": np.array([prediction for prediction, _ in natural]),
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
        raise ValueError(f"--images must be 1 to {MOST} different indices of test images, 0 to {n - 1}, got {given!r}")
    return places


def _nearest(models, dataset, n_draws, seed):
    """Places of the images that all models classify correctly with the smallest margins, then of others."""
    order = balanced_order(dataset.test_labels, 0)[:N_CANDIDATES]
    x, y = image_sets.Batches(dataset.test_images, dataset.test_labels, dataset.white).take(order)
    margins = []
    for model in models:
        with attacked(model, generator=seeds.make_generator(seed, "noise of predictions")):
            p = mean_logits(model, x, n_draws if is_noisy(model, x[:1]) else 1).double().softmax(1)
        own = p.gather(1, y[:, None])
        margins.append(own[:, 0] - p.scatter(1, y[:, None], -1.0).amax(1))
    least, largest = torch.stack(margins).amin(0), torch.stack(margins).amax(0)
    # Misclassified images come last.
    return order[torch.where(least > 0, largest, 2 + largest).argsort(stable=True)][:N_IMAGES].tolist()


def _attacks(model, x, y, eps, n_eot, seed):
    """Name and images of each attack, each with its own noise."""
    options = {"n_eot": n_eot}
    ifgsm = partial(attacks.ifgsm, eps=eps, step_size=eps / STEPS_PER_RADIUS, n_iter=N_ITER)
    for name, attack in zip(ATTACKS, (ifgsm, attacks.cw), strict=True):
        yield name, attack(model, x, y, generator=seeds.make_generator(seed, f"attack {name}"), **options)


def _predictions(model, x, n_draws, seed):
    """Classes and their probabilities, of the mean logits over the draws."""
    with attacked(model, generator=seeds.make_generator(seed, "noise of predictions")):
        best = mean_logits(model, x, n_draws).double().softmax(1).max(1)
    return best.indices.double().numpy(), best.values.numpy()


def _last(x):
    """Images with their channels last, as they are drawn."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def findings(data):
    """Return the findings for the JSON file."""
    classes, label = data["classes"].tolist(), data["label"].astype(int)
    made = {}
    for row, name in enumerate(data["attack"].tolist()):
        model = data["model"][int(data["attacked"][row])]
        prediction = data["prediction"][row].astype(int)
        made[f"{name} against {model}"] = {
            "predictions": [classes[k] for k in prediction],
            "probabilities": data["probability"][row].tolist(),
            "deceived": (prediction != label).tolist(),
            "n_deceived": int((prediction != label).sum()),
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
                "predictions": [classes[int(k)] for k in data["natural_prediction"][row]],
                "probabilities": data["natural_probability"][row].tolist(),
            }
            for row, model in enumerate(data["model"].tolist())
        },
    }


def plot(data):
    """(a) images and their adversarial versions, (b) the residuals."""
    n_attacks, n_images = len(data["attack"]), len(data["images"])
    figure = Figure(figsize=(11.5, 1.5 + 1.72 * n_images), layout="constrained")
    figure.suptitle(_heading(data), fontsize=10)
    left, right = figure.subfigures(1, 2, width_ratios=(n_attacks + 1, n_attacks))
    residuals = data["adversarial"].astype(float) - data["images"].astype(float)
    scale = data["change"].max() or 1.0
    left.suptitle("(a) images, with the attacked model's prediction and its probability", fontsize=10.5)
    right.suptitle(
        f"(b) residuals, black −{WHITE * scale:.3g}/255, grey 0, white +{WHITE * scale:.3g}/255", fontsize=10.5
    )
    images = left.subplots(n_images, n_attacks + 1, squeeze=False)
    changes = right.subplots(n_images, n_attacks, squeeze=False)
    for row in range(n_images):
        _original(images[row, 0], data, row)
        for column in range(n_attacks):
            _adversarial(images[row, column + 1], data, column, row)
            _show(changes[row, column], 0.5 + residuals[column, row] / (2 * scale))
            changes[row, column].set_xlabel(f"max |δ| =\n{WHITE * data['change'][column, row]:.2f}/255\n", fontsize=9)
    images[0, 0].set_title("original\n", fontsize=9.5)
    for column in range(n_attacks):
        title = f"{TITLES[str(data['attack'][column])]}\n{label(str(data['model'][int(data['attacked'][column])]))}"
        images[0, column + 1].set_title(title, fontsize=9.5)
        changes[0, column].set_title(title, fontsize=9.5)
    return figure


def _heading(data):
    trainings = "; ".join(_runs.in_one(data["how"].tolist()))
    draws = ", ".join(
        f"{label(str(model))} predicts by the mean of {int(n)} draws"
        for model, n in zip(data["model"], data["n_draws"], strict=True)
        if n > 1
    )
    eps = f"IFGSM$^{{20}}$ within {WHITE * float(data['eps']):.4g}/255, C-W as printed, without a radius"
    return "\n".join(filter(None, (trainings, f"{eps}; {draws}" if draws else eps)))


def _show(axes, image, colour=BLACK, width=0.8):
    axes.imshow(
        image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width)


def _original(axes, data, row):
    _show(axes, np.clip(data["images"][row], 0, 1))
    classes, wanted = data["classes"], int(data["label"][row])
    lines = []
    for model, prediction, probability in zip(
        data["model"], data["natural_prediction"][:, row], data["natural_probability"][:, row], strict=True
    ):
        name = label(str(model)).replace("ResNet-20", "") or "plain"
        lines.append(f"{name}: {classes[int(prediction)]} {probability:.2f}")
    axes.set_xlabel("\n".join([f"{classes[wanted]}", *lines]), fontsize=9)


def _adversarial(axes, data, column, row):
    wanted, prediction = int(data["label"][row]), int(data["prediction"][column, row])
    before = int(data["natural_prediction"][int(data["attacked"][column]), row])
    word, colour = ("deceived", RED) if prediction != wanted else ("still right", BLUE)
    if prediction != wanted and before != wanted:
        word = "wrong before"
    _show(axes, np.clip(data["adversarial"][column, row], 0, 1), colour, 2.5)
    text = f"p({data['classes'][prediction]}) = {data['probability'][column, row]:.2f}\n{word}"
    axes.set_xlabel(text, fontsize=9, color=colour)


main = make_main(
    "fig6",
    __doc__,
    compute=compute,
    plot=plot,
    findings=findings,
    of_networks=True,
    options={"images": {"nargs": "*", "metavar": "I", "help": "indices of test images (default: four chosen)"}},
)


if __name__ == "__main__":
    main()
