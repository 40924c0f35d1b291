"""The attacks of an evaluation by name, with all their settings.

    fgsm  ifgsm20  cw  cw-as-released          the paper's (sections 3.2 and 4); gradients averaged over 5 draws
    pgd20                                      ifgsm20 from a random start; any number of steps may stand for 20
    apgd-ce  apgd-dlr  apgd-t  fab  fab-t      the present standard: 20 draws
    square                                     random search, without gradients
    autoattack                                 those one after the other
    unbounded                                  ifgsm in the whole cube of images, which must leave nothing right
    natural                                    none
    ...-eot20  ...-eot20-logits                with other draws; averaging logits inside the loss, not gradients
    transfer-...                               the images come from the same network with its noise switched off
    noise-off-...                              noise switched off for the attack and the evaluation
    blind-...                                  the images come from another network, the oracle or surrogate
    ...@200                                    on the first 200 images

For a deterministic model the draws have no meaning, and names that ask for more of them are the plain ones.
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
# The paper's section 4: five independent runs; auto-attack's for models that draw.
PAPER_EOT, STANDARD_EOT = 5, 20
# With the number of steps that the name asks for, the paper's table names IFGSM^20; `red_flags` takes 40 of 1/20.
COUNTED = ("ifgsm", "pgd")
PAPER = ("fgsm", "ifgsm", "cw", "cw-as-released")
APGD = ("apgd-ce", "apgd-dlr", "apgd-t", "apgd-margin")
FAB = ("fab", "fab-t")
# Attacks without a loss inside which logits could be averaged.
NO_LOSS = ("cw", "cw-as-released", "square", *FAB)
VERSIONS = ("auto", "standard", "rand")
BASES = ("natural", *PAPER, "pgd", *APGD, *FAB, "square", "autoattack", "unbounded")
# Steps of a twentieth of the cube's size.
UNBOUNDED_N_ITER, UNBOUNDED_STEP = 40, 1 / 20


def attack_names():
    """Return the table of attack names, as text.

    Returns
    -------
    str
    """
    return __doc__


@dataclass(frozen=True)
class AttackSpec:
    """An attack with all its settings, and how the model is then evaluated on the attacked images.

    `name` as given to `parse`, without the number of images, and without draws where nothing draws; `source` is what is
    attacked: "model", "noise-off" or "oracle"; `noise` whether the model draws in the evaluation; `everywhere` whether
    misclassified images are attacked as well, as in the paper; `eps` and `step_size` in the norm, in units of images in
    [0, 1]; the others are None for attacks without them.
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
        """Whether the attack promises images within eps, as C&W's, which minimises the distance, does not."""
        return not self.base.startswith("cw")

    @property
    def is_compared(self):
        """Whether the worst case counts it: with the noise on, images in the cube, those outside the ball left out."""
        return self.noise and self.base not in ("natural", "unbounded", "cw-as-released")

    @property
    def needs_gradients(self):
        """Whether the attack differentiates the model; Square does not, and AutoAttack goes on without."""
        return self.base not in ("natural", "square", "autoattack")

    def settings(self):
        """All settings but the name, which adds nothing, as a dict."""
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
    """Return the attack of a name.

    Parameters
    ----------
    name : str
        As at the head of this module.
    is_noisy, oracle_is_noisy : bool
        Whether the model, and the one that is attacked blindly, draw.
    norm : {"linf", "l2"}
        Norm.
    eps, step_size : float
        Radius, and step of IFGSM and PGD, by default eps / 4.
    n_images : int
        Images where the name gives none, and at most.
    n_iter, n_queries : int
        Steps of APGD and FAB, and queries of Square.
    version : str
        Version of AutoAttack.

    Returns
    -------
    AttackSpec

    Raises
    ------
    ValueError
        If there is no such attack.

    Examples
    --------
    >>> attack = parse("transfer-ifgsm20@200", is_noisy=True)
    >>> attack.source, attack.base, attack.n_iter, attack.n_images
    ('noise-off', 'ifgsm', 20, 200)
    """
    match = NAME.fullmatch(name)
    base = match and match["base"]
    if not match or base not in BASES or (match["n_iter"] is not None) != (base in COUNTED):
        raise ValueError(f"there is no attack {name!r}: --list names them all")
    source = {None: "model", "blind": "oracle"}.get(match["source"], "noise-off")
    if base == "natural" and (match["n_eot"] or match["n_images"] or match["source"] in ("transfer", "blind")):
        raise ValueError(f"there is no attack {name!r}: natural images have neither draws nor a source nor a part")
    if match["logits"] and base in NO_LOSS:
        raise ValueError(f"there is no attack {name!r}: {base} has no loss inside which logits could be averaged")
    draws = {"model": is_noisy, "oracle": oracle_is_noisy, "noise-off": False}[source]
    asked = name.partition("@")[0]
    eps = checks.real("eps", eps, positive=True)
    attack = AttackSpec(
        asked if draws else asked.partition("-eot")[0],
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
        # In the maximum norm the cube's size; in the Euclidean one it is that of the images.
        attack = replace(attack, eps=1.0, step_size=UNBOUNDED_STEP, n_iter=UNBOUNDED_N_ITER)
    usual = PAPER_EOT if base in (*PAPER, "pgd", "unbounded") else STANDARD_EOT
    # As released; random search takes single draws, whose errors the deciding draws correct.
    usual = 1 if base in ("cw-as-released", "square") else usual
    n_eot = int(match["n_eot"] or usual) if draws else 1
    eot = "logits" if match["logits"] and n_eot > 1 else "gradients"
    return replace(attack, n_eot=n_eot, eot=None if base in NO_LOSS else eot)


def attacks_of(names, *, is_noisy, has_oracle=False, **options):
    """Return the attacks of names, in order, without those that add nothing for this model.

    Parameters
    ----------
    names : sequence of str
        As at the head of this module.
    is_noisy : bool
        Whether the model draws: else nothing is switched off, and draws are no setting.
    has_oracle : bool, default=False
        Whether there is another network to attack.
    **options : optional
        Those of `parse`.

    Returns
    -------
    list of AttackSpec
        "natural" first; "noise-off-natural" before the first of "noise-off-...". An attack that is named twice is made
        once, by its first name, on the greater number of images.

    Raises
    ------
    ValueError
        If there is no such attack, or a blind one and no oracle.
    """
    chosen = [parse("natural", is_noisy=is_noisy, **options)]
    for name in names:
        attack = parse(name, is_noisy=is_noisy, **options)
        if attack.source == "oracle" and not has_oracle:
            raise ValueError(f"{name} needs the network that is attacked: give --oracle RUN, or surrogate=")
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
