"""What an evaluation asks of a model: attacks by name, with all their settings.

    fgsm  ifgsm20  cw  cw-as-released          the paper's (sections 3.2 and 4): of a noisy model 5 draws a gradient
    pgd20                                      ifgsm20 from a random start; any number of steps may stand for 20
    apgd-ce  apgd-dlr  apgd-t  square          the present standard: 20 draws
    autoattack                                 those one after the other
    unbounded                                  ifgsm in the whole cube of images, which must leave nothing right
    natural                                    none
    ...-eot20  ...-eot20-logits                with other draws; averaging logits inside the loss, not gradients
    transfer-...                               the images come from the same network with its noise switched off
    noise-off-...                              noise switched off for the attack and the answers
    blind-...                                  the images come from another run, the oracle
    ...@200                                    on the first 200 images

For a model that draws nothing the draws mean nothing, and names that ask for more of them are the plain ones.
"""

import re
from dataclasses import asdict, dataclass, replace

from bridge import checks
from nets import attacks as library

__all__ = ["Attack", "attack_names", "attacks_of", "parse"]

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
BASES = ("natural", *PAPER, "pgd", *APGD, "square", "autoattack", "unbounded")
UNBOUNDED = {"eps": 1.0, "step_size": 1 / 20, "n_iter": 40}


def attack_names():
    """Return the table of attack names, as text.

    Returns
    -------
    str
    """
    return __doc__


@dataclass(frozen=True)
class Attack:
    """An attack with all its settings, and how the attacked images are asked about.

    Parameters
    ----------
    name : str
        As given to `parse`, without the number of images; without draws, where nothing draws.
    base : str
        "natural" or the attack's own name.
    n_images : int
        The first so many images of the evaluation.
    source : {"model", "noise-off", "oracle"}
        What is attacked: the model, the same without its noise, another.
    noise : bool
        Whether the model that answers draws its noise.
    everywhere : bool
        Attack images that are answered wrong as well, as the paper does.
    eps, step_size : float
        Radius and step in the maximum norm, in units of images in [0, 1].
    n_iter, n_queries, n_eot : int or None
        Of those attacks that have them.
    eot : str or None
        "gradients" or "logits", what is averaged over the n_eot draws.
    version : str or None
        Of "autoattack".
    """

    name: str
    base: str
    n_images: int
    source: str = "model"
    noise: bool = True
    everywhere: bool = False
    eps: float = 8 / 255
    step_size: float = 2 / 255
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

    def settings(self):
        """Return all but the name, which says no more.

        Returns
        -------
        dict
        """
        return {key: value for key, value in asdict(self).items() if key != "name" and value is not None}

    def __call__(self, model, x, y, *, generator=None):
        """Attack.

        Parameters
        ----------
        model : Module
            Images to logits: what is attacked, its noise switched on or off.
        x : Tensor of shape (n_images, n_channels, height, width)
            Images in [0, 1].
        y : Tensor of shape (n_images,)
            Labels.
        generator : torch.Generator, optional
            Source of all random numbers.

        Returns
        -------
        Tensor of shape (n_images, n_channels, height, width)
            x_adv.
        """
        shared = {"generator": generator}
        if self.n_eot is not None:
            shared["n_eot"] = self.n_eot
        if self.base in ("fgsm", "ifgsm", "pgd", "unbounded"):
            shared |= {"eps": self.eps, "eot": self.eot}
            if self.base != "fgsm":
                shared |= {"step_size": self.step_size, "n_iter": self.n_iter}
            attack = library.ifgsm if self.base == "unbounded" else getattr(library, self.base)
            return attack(model, x, y, **shared)
        if self.base in APGD:
            loss = {"apgd-t": "dlr-targeted"}.get(self.base, self.base.removeprefix("apgd-"))
            return library.apgd(model, x, y, eps=self.eps, n_iter=self.n_iter, loss=loss, eot=self.eot, **shared)
        if self.base == "square":
            return library.square(model, x, y, eps=self.eps, n_queries=self.n_queries, **shared)
        if self.base == "autoattack":
            options = {"n_iter": self.n_iter, "n_queries": self.n_queries, "version": self.version, "eot": self.eot}
            return library.autoattack(model, x, y, eps=self.eps, batch_size=len(x), **options, **shared)[0]
        if self.base == "cw":
            return library.cw(model, x, y, **shared)
        if self.base == "cw-as-released":
            return library.cw_as_released(model, x, y, **shared)
        return x


def parse(
    name,
    *,
    is_noisy,
    oracle_is_noisy=False,
    eps=8 / 255,
    step_size=2 / 255,
    n_images=1000,
    n_iter=100,
    n_queries=5000,
    version="auto",
):
    """Return the attack of a name.

    Parameters
    ----------
    name : str
        See the head of this module.
    is_noisy, oracle_is_noisy : bool
        Whether the model, and the one that is attacked blindly, draw.
    eps, step_size : float
        Radius, and step of IFGSM and PGD.
    n_images : int
        Images where the name gives none, and at most.
    n_iter, n_queries : int
        Of APGD, and of Square.
    version : str
        Of "autoattack", see `nets.attacks._autoattack`.

    Returns
    -------
    Attack

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
        raise ValueError(f"there is no attack {name!r}: natural images have no draws, no source and no part")
    if match["logits"] and base in ("cw", "cw-as-released", "square"):
        raise ValueError(f"there is no attack {name!r}: {base} has no loss inside which logits could be averaged")
    draws = {"model": is_noisy, "oracle": oracle_is_noisy, "noise-off": False}[source]
    asked = name.partition("@")[0]
    attack = Attack(
        asked if draws else asked.partition("-eot")[0],
        base,
        min(n_images, int(match["n_images"] or n_images)),
        source=source,
        noise=match["source"] != "noise-off",
        everywhere=base in PAPER and match["source"] in (None, "blind") and not (draws and match["n_eot"]),
        eps=checks.real("eps", eps, positive=True),
        step_size=checks.real("step_size", step_size, positive=True),
    )
    if base == "natural":
        return replace(attack, eps=0.0, step_size=0.0)
    if match["n_iter"]:
        attack = replace(attack, n_iter=int(match["n_iter"]))
    elif base in APGD or base == "autoattack":
        attack = replace(attack, n_iter=checks.integer("n_iter", n_iter, at_least=1))
    if base in ("square", "autoattack"):
        attack = replace(attack, n_queries=checks.integer("n_queries", n_queries, at_least=1))
    if base == "autoattack":
        attack = replace(attack, version=version)
    if base == "unbounded":
        attack = replace(attack, **UNBOUNDED)
    usual = PAPER_EOT if base in (*PAPER, "pgd", "unbounded") else STANDARD_EOT
    # As released, and as random search is made: its errors of one draw are found out by the draws that decide.
    usual = 1 if base in ("cw-as-released", "square") else usual
    n_eot = int(match["n_eot"] or usual) if draws else 1
    eot = "logits" if match["logits"] and n_eot > 1 else "gradients"
    return replace(attack, n_eot=n_eot, eot=None if base in ("cw", "cw-as-released", "square") else eot)


def attacks_of(names, *, is_noisy, has_oracle=False, **options):
    """Return the attacks of names, in order, without those that say nothing more of this model.

    Parameters
    ----------
    names : sequence of str
        See the head of this module.
    is_noisy : bool
        Whether the model draws: else nothing is switched off, and draws are no setting.
    has_oracle : bool, default=False
        Whether there is another run to attack.
    **options : optional
        Those of `parse`.

    Returns
    -------
    list of Attack
        "natural" first; before the first of "noise-off-...", "noise-off-natural". One asked for twice is made once, by
        its first name, on the greater number of images.

    Raises
    ------
    ValueError
        If there is no such attack, or a blind one and no oracle.
    """
    chosen = [parse("natural", is_noisy=is_noisy, **options)]
    for name in names:
        attack = parse(name, is_noisy=is_noisy, **options)
        if attack.source == "oracle" and not has_oracle:
            raise ValueError(f"{name} needs the run that is attacked: give --oracle RUN")
        if attack.source == "noise-off":
            if not is_noisy:
                continue
            if not attack.noise:
                chosen.append(parse("noise-off-natural", is_noisy=is_noisy, **options))
        chosen.append(attack)
    kept = {}
    for attack in chosen:
        # Of a model that draws nothing, "ifgsm20-eot20" is "ifgsm20".
        settings = tuple(replace(attack, n_images=0).settings().items())
        if attack.n_images:
            first = kept.setdefault(settings, attack)
            kept[settings] = replace(first, n_images=max(first.n_images, attack.n_images))
    return list(kept.values())
