"""The protocol on anybody's model: the function that others call."""

from nets.attacks import EPS, N_DRAWS
from nets.evaluation._protocol import assess


def evaluate_model(
    model,
    images,
    labels,
    *,
    eps=EPS,
    norm="linf",
    attacks=None,
    step_size=None,
    n_draws=N_DRAWS,
    n_repeats=5,
    surrogate=None,
    out=None,
    n_iter=100,
    n_queries=5000,
    batch_size=None,
    seed=0,
    keep_images=False,
    progress=True,
):
    """Evaluate the robustness of any classifier of images in [0, 1], as the networks of this project are evaluated.

    The model is a Module, a function, a jit or exported module, a DataParallel. Modes of submodules stay as they are
    handed over, except that a model in training mode is evaluated in evaluation mode, with a warning if that matters.
    Whether it draws is found by five passes. If so, predictions are means over n_draws fresh passes, repeated n_repeats
    times, and the report shows robust accuracy against the draws per gradient, doubled until it no longer falls.
    Whether it is differentiable is found by a pass. If not, only score-based attacks run, and the first line of the
    report says so, unless a surrogate guides the others.

    Parameters
    ----------
    model : callable
        Images (n_images, ...) in [0, 1] to logits (n_images, n_classes).
    images : Tensor of shape (n_images, ...)
        Images in [0, 1], on the device of the model.
    labels : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius, in units of images and in the norm; > 0, in the maximum norm at most 1.
    norm : {"linf", "l2"}
        Norm.
    attacks : sequence of str, optional
        Names as `python -m nets.evaluate --list` has them, "ifgsm20-eot5" say. By default FGSM, IFGSM of 20 steps and
        AutoAttack's parts: APGD-CE, APGD-T, FAB-T and Square on a deterministic model (some 2000 gradients and 5000
        queries per image: n_iter=20 and n_queries=500 for a first impression), APGD-CE and APGD-DLR by 20 draws per
        gradient on one that draws; Square alone where there are no gradients.
    step_size : float, optional
        Step of IFGSM and PGD, in units of images and in the norm; > 0. By default eps / 4.
    n_draws : int, default=10
        Passes whose mean logits make a prediction, if the model draws; >= 1.
    n_repeats : int, default=5
        Such predictions per image; >= 1.
    surrogate : callable, optional
        A differentiable stand-in with the same classes: its gradients guide the attacks, at the logits of the model
        itself, which decides (BPDA through the whole network). It is attacked by itself too ("blind-...", transfer).
    out : path, optional
        Directory of the results, saved batch by batch: the same call resumes from there. By default nothing is kept.
    n_iter : int, default=100
        Steps of APGD and FAB; >= 1.
    n_queries : int, default=5000
        Queries of Square; >= 1.
    batch_size : int, optional
        Images at once; by default 128, on a GPU 1000.
    seed : int, default=0
        Seed of attacks and noise; >= 0.
    keep_images : bool, default=False
        Keep the attacked images, as `report.x_adv[name]`.
    progress : bool, default=True
        Show progress bars, if standard error is a terminal.

    Returns
    -------
    Report
        `rows`, `worst_case`, `red_flags`, `eot_curve`; as text its table in Markdown.

    Raises
    ------
    ValueError
        If the model, images, labels or an option are not as above.
    ArithmeticError
        If an attack leaves its ball, or a number is not finite (raised by a helper).

    Examples
    --------
    >>> import nets, torch
    >>> model = lambda x: x.flatten(1)                      # the brightest of four pixels
    >>> x = torch.eye(4).view(4, 1, 2, 2)
    >>> report = nets.evaluate_model(model, x, torch.arange(4), eps=0.6, attacks=["fgsm"])
    >>> [(row["name"], row["accuracy"]) for row in report.rows]
    [('natural', 1.0), ('fgsm', 0.0)]
    """
    return assess(
        model,
        images,
        labels,
        eps=eps,
        norm=norm,
        attacks=attacks,
        step_size=step_size,
        n_draws=n_draws,
        n_repeats=n_repeats,
        surrogate=surrogate,
        out=out,
        n_iter=n_iter,
        n_queries=n_queries,
        batch_size=batch_size,
        seed=seed,
        keep_images=keep_images,
        progress=progress,
    )
