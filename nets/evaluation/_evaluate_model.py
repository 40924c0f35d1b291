"""The public function of the protocol: evaluate any model in one call."""

from nets.attacks import EPS, N_DRAWS
from nets.evaluation._protocol import Settings, assess


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

    The model may be a Module, a function, a scripted or exported module, or a DataParallel. Submodules keep their
    modes, except that a model in training mode is evaluated in evaluation mode, with a warning if that matters. Five
    passes show whether the model is noisy. If so, predictions are means over n_draws fresh passes, repeated n_repeats
    times, and the report shows robust accuracy against the number of draws per gradient, which is doubled until the
    accuracy no longer falls. One pass shows whether the model is differentiable. If not, only score-based attacks run,
    and the first line of the report says so, unless a surrogate guides the other attacks.

    Parameters
    ----------
    model : callable
        Images (n_images, ...) in [0, 1] to logits (n_images, n_classes).
    images : Tensor of shape (n_images, ...)
        Images in [0, 1], on the device of the model.
    labels : Tensor of shape (n_images,)
        Labels.
    eps : float, default=8/255
        Radius of the ball, in units of images and in `norm`; > 0, and at most 1 in the maximum norm.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    attacks : sequence of str, optional
        Names as listed by `python -m nets.evaluate --list`, for example "ifgsm20-eot5". If empty, natural images alone
        are evaluated, without red flags and the curve over draws, for which the model is attacked. Default for a
        deterministic model: FGSM, IFGSM with 20 steps and the parts of AutoAttack, APGD-CE, APGD-T, FAB-T and Square
        (about 2000 gradients and 5000 queries per image; n_iter=20 and n_queries=500 give a first impression). Default
        for a noisy model: FGSM, IFGSM, APGD-CE and APGD-DLR, the last three with 20 draws per gradient. Default for a
        model without gradients: Square.
    step_size : float, optional
        Step size of IFGSM and PGD, in units of images and in `norm`; > 0. Default: eps / 4.
    n_draws : int, default=10
        Number of passes whose mean logits make a prediction, if the model is noisy; >= 1.
    n_repeats : int, default=5
        Number of such predictions per image; >= 1. With one of a noisy model, the report has no worst case: the draws
        that choose the attack on an image would also score it.
    surrogate : callable, optional
        A differentiable stand-in with the same classes. Its gradients, taken at the logits of the model, guide the
        attacks (BPDA through the whole network); the model itself decides. The surrogate is also attacked on its own
        (transfer, "blind-...").
    out : path, optional
        Directory in which the results are saved batch by batch; the same call resumes from it. Code, settings and
        weights of the model and of the surrogate are compared. If some of them cannot be read, nothing is saved, which
        a warning and a note say. By default nothing is saved.
    n_iter : int, default=100
        Number of steps of APGD and FAB; >= 1.
    n_queries : int, default=5000
        Number of queries of Square; >= 1.
    batch_size : int, optional
        Number of images per batch. Default: 128, or 1000 on a GPU.
    seed : int, default=0
        Seed of attacks and noise; >= 0.
    keep_images : bool, default=False
        Whether to keep the attacked images, as `report.x_adv[name]`.
    progress : bool, default=True
        Whether to show progress bars, if standard error is a terminal.

    Returns
    -------
    Report
        Result with `rows`, `worst_case`, `red_flags` and `eot_curve`; str() of it is a table in Markdown.

    Raises
    ------
    ValueError
        If the model, images, labels or an option are not as above, or if `out` holds results of a model with the same
        code and weights, but other logits.
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
    settings = Settings(
        eps=eps,
        norm=norm,
        attacks=attacks,
        step_size=step_size,
        n_draws=n_draws,
        n_repeats=n_repeats,
        out=out,
        n_iter=n_iter,
        n_queries=n_queries,
        batch_size=batch_size,
        seed=seed,
        keep_images=keep_images,
        progress=progress,
    )
    return assess(model, images, labels, settings, surrogate=surrogate)
