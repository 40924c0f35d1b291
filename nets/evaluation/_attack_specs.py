"""The attacks of an evaluation by name, with all their settings.

    fgsm  ifgsm20  cw  cw-as-released          the paper's (sections 3.2 and 4); gradients averaged over 5 draws
    pgd20                                      ifgsm20 from a random start; any number of steps may replace 20
    apgd-ce  apgd-dlr  apgd-t  fab  fab-t      today's standard; gradients averaged over 20 draws
    square                                     random search, without gradients
    autoattack                                 AutoAttack: the standard attacks in sequence
    unbounded                                  ifgsm in the whole cube of images, which should break every image
    natural                                    no attack
    ...-eot20  ...-eot20-logits                another number of draws; averaging logits inside the loss
    transfer-...                               images made on the same network with its noise switched off
    noise-off-...                              noise switched off for the attack and the evaluation
    blind-...                                  images made on another network, the oracle or surrogate
    ...@200                                    on the first 200 images

For a deterministic model the number of draws has no effect, and "ifgsm20-eot20" is the same attack as "ifgsm20".
"""

import math
import re
from dataclasses import asdict, dataclass, replace

from bridge import checks
from nets import attacks as library

__all__ = ["attack_names", "attacks_of", "parse"]

NAME = re.compile(
    r"(?:(?P<source>transfer|noise-off|blind)-)?(?P<base>[a-z]+(?:-[a-z]+)*?)(?P<n_iter>[1-9]\d*)?"
    r"(?:-eot(?P<n_eot>[1-9]\d*)(?P<logits>-logits)?)?(?:@(?P<n_images>[1-9]\d*))?"
)
# Draws per gradient: five independent runs in the paper's section 4; auto-attack's number for noisy models.
PAPER_EOT, STANDARD_EOT = 5, 20
# Attacks whose names contain the number of steps, as IFGSM^20 in the paper's tables.
COUNTED = ("ifgsm", "pgd")
PAPER = ("fgsm", "ifgsm", "cw", "cw-as-released")
APGD = ("apgd-ce", "apgd-dlr", "apgd-t", "apgd-margin")
FAB = ("fab", "fab-t")
# Attacks without a loss inside which logits could be averaged.
NO_LOSS = ("cw", "cw-as-released", "square", *FAB)
VERSIONS = ("auto", "standard", "rand")
BASES = ("natural", *PAPER, "pgd", *APGD, *FAB, "square", "autoattack", "unbounded")
# Steps of a twentieth of the cube's size, as in `nets.red_flags`.
UNBOUNDED_N_ITER, UNBOUNDED_STEP = 40, 1 / 20


def attack_names():
    """Return the table of attack names as text.

    Returns
    -------
    str
    """
    return __doc__


@dataclass(frozen=True)
class AttackSpec:
    """An attack with all its settings, and how the model is then evaluated on the attacked images.

    `name` is as given to `parse`, without the number of images, and without draws if the attacked model is
    deterministic. `source` is the attacked model: "model", "noise-off" or "oracle". `noise` is whether the model is
    noisy in the evaluation, `everywhere` whether misclassified images are attacked as well, as in the paper. `eps` and
    `step_size` are in the norm, in units of images in [0, 1]. The others are None for attacks that do not use them.
    """

    name: str
    base: str
    n_images: int
    source: str = "model"
    noise: bool = True
    everywhere: bool = False
    norm: str = "linf"
    eps: float = library.EPS
    step_size: float = library.EPS / 4
    n_iter: int | None = None
    n_queries: int | None = None
    n_eot: int | None = None
    eot: str | None = None
    version: str | None = None

    @property
    def is_bounded(self):
        """Whether the attack returns images within eps; that of Carlini and Wagner minimises the distance instead."""
        return not self.base.startswith("cw")

    @property
    def is_compared(self):
        """Whether the attack counts in the worst case: it has the noise on, and its images are in the cube."""
        return self.noise and self.base not in ("natural", "unbounded", "cw-as-released")

    @property
    def needs_gradients(self):
        """Whether the attack needs a differentiable model: Square does not, and AutoAttack skips its other parts."""
        return self.uses_gradients and self.base != "autoattack"

    @property
    def uses_gradients(self):
        """Whether the attack uses gradients where there are some, and a surrogate therefore guides it."""
        return self.base not in ("natural", "square")

    def settings(self):
        """All settings except the name, which depends on them, as a dict."""
        return {key: value for key, value in asdict(self).items() if key != "name" and value is not None}

    def __call__(self, model, x, y, *, generator=None):
        """Attack images (n_images, ...) in [0, 1] with labels (n_images,); return x_adv."""
        shared = {"generator": generator}
        if self.n_eot is not None:
            shared["n_eot"] = self.n_eot
        if self.base == "cw":
            return library.cw(model, x, y, norm=self.norm, **shared)
        if self.base == "cw-as-released":
            return library.cw_as_released(model, x, y, **shared)
        shared |= {"eps": self.eps, "norm": self.norm}
        if self.base in ("fgsm", "ifgsm", "pgd"):
            steps = {} if self.base == "fgsm" else {"step_size": self.step_size, "n_iter": self.n_iter}
            return getattr(library, self.base)(model, x, y, eot=self.eot, **steps, **shared)
        if self.base == "unbounded":
            size = 1.0 if self.norm == "linf" else math.sqrt(x[0].numel())
            steps = {"step_size": size * UNBOUNDED_STEP, "n_iter": self.n_iter}
            return library.ifgsm(model, x, y, eot=self.eot, **steps, **(shared | {"eps": size}))
        if self.base in APGD:
            loss = {"apgd-t": "dlr-targeted"}.get(self.base, self.base.removeprefix("apgd-"))
            return library.apgd(model, x, y, n_iter=self.n_iter, loss=loss, eot=self.eot, **shared)
        if self.base in FAB:
            return library.fab(model, x, y, n_iter=self.n_iter, targeted=self.base == "fab-t", **shared)
        if self.base == "square":
            return library.square(model, x, y, n_queries=self.n_queries, **shared)
        if self.base == "autoattack":
            options = {"n_iter": self.n_iter, "n_queries": self.n_queries, "version": self.version, "eot": self.eot}
            return library.autoattack(model, x, y, batch_size=len(x), **options, **shared)[0]
        return x


def parse(
    name,
    *,
    is_noisy,
    oracle_is_noisy=False,
    norm="linf",
    eps=library.EPS,
    step_size=None,
    n_images=1000,
    n_iter=100,
    n_queries=5000,
    version="auto",
):
    """Return the attack of a name, with its settings.

    Parameters
    ----------
    name : str
        Name of the attack, see `attack_names`.
    is_noisy, oracle_is_noisy : bool
        Whether the model, and the model on which blind attacks are made, is noisy.
    norm : {"linf", "l2"}
        Norm of the perturbation.
    eps, step_size : float
        Radius, and step size of IFGSM and PGD (default: eps / 4), in units of images in [0, 1].
    n_images : int
        Number of images if the name gives none, and the largest number.
    n_iter, n_queries : int
        Number of steps of APGD and FAB, and of queries of Square.
    version : str
        Version of AutoAttack.

    Returns
    -------
    AttackSpec

    Raises
    ------
    ValueError
        If there is no such attack, or an option is out of range.

    Examples
    --------
    >>> attack = parse("transfer-ifgsm20@200", is_noisy=True)
    >>> attack.source, attack.base, attack.n_iter, attack.n_images
    ('noise-off', 'ifgsm', 20, 200)
    """
    match = NAME.fullmatch(name)
    base = match and match["base"]
    if not match or base not in BASES or (match["n_iter"] is not None) != (base in COUNTED):
        raise ValueError(f"there is no attack {name!r}: python -m nets.evaluate --list names them all")
    source = {None: "model", "blind": "oracle"}.get(match["source"], "noise-off")
    if base == "natural" and (match["n_eot"] or match["n_images"] or match["source"] in ("transfer", "blind")):
        raise ValueError(f"there is no attack {name!r}: natural images take no draws, source or number of images")
    if match["logits"] and base in NO_LOSS:
        raise ValueError(f"there is no attack {name!r}: {base} has no loss inside which logits could be averaged")
    draws = {"model": is_noisy, "oracle": oracle_is_noisy, "noise-off": False}[source]
    full_name = name.partition("@")[0]
    eps = checks.real("eps", eps, positive=True)
    attack = AttackSpec(
        full_name if draws else full_name.partition("-eot")[0],
        base,
        min(n_images, int(match["n_images"] or n_images)),
        source=source,
        noise=match["source"] != "noise-off",
        everywhere=base in PAPER and match["source"] in (None, "blind") and not (draws and match["n_eot"]),
        norm=checks.one_of("norm", norm, ("linf", "l2")),
        eps=eps,
        step_size=checks.real("step_size", eps / 4 if step_size is None else step_size, positive=True),
    )
    if base == "natural":
        return replace(attack, eps=0.0, step_size=0.0)
    if match["n_iter"]:
        attack = replace(attack, n_iter=int(match["n_iter"]))
    elif base in (*APGD, *FAB, "autoattack"):
        attack = replace(attack, n_iter=checks.integer("n_iter", n_iter, at_least=1))
    if base in ("square", "autoattack"):
        attack = replace(attack, n_queries=checks.integer("n_queries", n_queries, at_least=1))
    if base == "autoattack":
        attack = replace(attack, version=checks.one_of("version", version, VERSIONS))
    if base == "unbounded":
        # In the maximum norm this is the size of the cube; in the Euclidean norm the size depends on the images.
        attack = replace(attack, eps=1.0, step_size=UNBOUNDED_STEP, n_iter=UNBOUNDED_N_ITER)
    default = PAPER_EOT if base in (*PAPER, "pgd", "unbounded") else STANDARD_EOT
    # As released; random search uses single draws, whose errors the deciding draws correct.
    default = 1 if base in ("cw-as-released", "square") else default
    n_eot = int(match["n_eot"] or default) if draws else 1
    eot = "logits" if match["logits"] and n_eot > 1 else "gradients"
    return replace(attack, n_eot=n_eot, eot=None if base in NO_LOSS else eot)


def attacks_of(names, *, is_noisy, has_oracle=False, **options):
    """Return the attacks of several names, in order, without those that are redundant for this model.

    Parameters
    ----------
    names : sequence of str
        Names of attacks, see `attack_names`.
    is_noisy : bool
        Whether the model is noisy. If not, attacks with the noise switched off are left out, and draws have no effect.
    has_oracle : bool, default=False
        Whether there is another network on which blind attacks are made.
    **options : optional
        Options of `parse`.

    Returns
    -------
    list of AttackSpec
        Attacks, "natural" first, and "noise-off-natural" before the first of "noise-off-...". An attack that is named
        twice occurs once, with its first name, on the larger number of images.

    Raises
    ------
    ValueError
        If there is no such attack, or a blind attack without an oracle.
    """
    chosen = [parse("natural", is_noisy=is_noisy, **options)]
    for name in names:
        attack = parse(name, is_noisy=is_noisy, **options)
        if attack.source == "oracle" and not has_oracle:
            raise ValueError(f"{name} needs a network on which it is made: give --oracle RUN, or surrogate=")
        if attack.source == "noise-off":
            if not is_noisy:
                continue
            if not attack.noise:
                chosen.append(parse("noise-off-natural", is_noisy=is_noisy, **options))
        chosen.append(attack)
    kept = {}
    for attack in chosen:
        # For a deterministic model, "ifgsm20-eot20" is "ifgsm20".
        settings = tuple(replace(attack, n_images=0).settings().items())
        if attack.n_images:
            first = kept.setdefault(settings, attack)
            kept[settings] = replace(first, n_images=max(first.n_images, attack.n_images))
    return list(kept.values())
