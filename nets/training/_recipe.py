"""What is trained and how, one recipe a row of the paper's tables, by name: `recipe("table2/en5_resnet20")`.

`cpu/...` are the same experiments sized for two cores, by 30 epochs of fast adversarial training; `cpu/digits`
takes seconds. The paper's text is the default of every field; where the released code differs from it, `as_released`
changes the fields that say so.
"""

import difflib
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Literal, get_args, get_origin, get_type_hints

from bridge import checks
from nets.models import build
from nets.published import ROWS, Row

__all__ = ["RECIPES", "Recipe", "as_released", "published", "recipe"]

# A run may be resumed with others: they change how fast the same is computed, up to rounding, and where images lie,
# which are told apart by their digest.
EXECUTION = ("data", "training_dtype", "crafting_dtype", "channels_last", "compile", "n_threads")


@dataclass(frozen=True)
class Recipe:
    """A training.

    Parameters
    ----------
    model : str
        As `nets.build` names it.
    data : str
        "digits", "cifar10", "cifar100", or the path of a folder or .tar archive of train/<class>/*, test/<class>/*.
    method : {"natural", "pgd", "fast", "trades"}
        Minimise the loss of: clean images; those of PGD (Algorithm 3.1); those of one step of FGSM from a random start,
        of size fast_step eps (Wong et al. 2020); clean ones plus beta KL (Zhang et al. 2019).
    coef : float
        The paper's a: noise of standard deviation a sqrt(Var(x + F(x))).
    noise : {"gaussian", "laplace", "none"}
        Law of the noise in "en..." models.
    std_over : {"batch", "sample"}
        Var over the whole batch, as released, or over each image.
    weights : {"equal", "learned"}
        Of the terms of a sum of models, learned once an epoch (section 5).
    weights_step_size : float
        Step of the learned weights along the mean gradient over the epoch; the paper gives none.
    eps, step_size : float
        Radius and step of the attack, in units of images in [0, 1]. Released code: 0.031 and 0.007.
    n_iter : int
        Steps of PGD, in "pgd" and "trades".
    random_start : bool
        Start from a uniform random point of the ball.
    fast_step : float
        Step of "fast" in units of eps: 1.25 is 10/255 for 8/255.
    fast_start : float
        Radius of the random start of "fast" in units of eps. N-FGSM (de Jorge et al. 2022): 2, with fast_step 1.
    fast_projection : bool
        Bring the images of "fast" back into the ball. N-FGSM does not: they stay in [0, 1] alone.
    crafting_batch_norm : {"running", "batch"}
        Batch normalisation while adversarial images are made: by running statistics or the batch's. Released code: the
        batch's, which enter the running statistics as well.
    beta : float
        Weight of the KL term of "trades" (1 / lambda there).
    epochs : int
        Passes over the training images. 0: nothing is trained, `members` are put together.
    batch_size : int
        Images in a step, over all processes; what is left over at the end of an epoch is left out.
    lr : float
        Learning rate; the greatest one, of "cyclic".
    schedule : {"steps", "cyclic"}
        lr decay^k, k the number of milestones passed; or from 0 linearly up to lr at peak, and down to 0 again.
    milestones : tuple of float
        Of "steps", in units of the epochs: the paper's 80, 120 and 160 of 200.
    decay : float
        Factor at a milestone.
    peak : float
        Of "cyclic", in units of the epochs.
    momentum : float
        Of stochastic gradient descent.
    nesterov : bool
        Nesterov's form.
    weight_decay : float
        On every weight.
    reset_momentum : bool
        Begin each epoch with momentum 0, as the released code does, which makes a new optimiser each epoch.
    padding : int
        Zeros on each side before a random crop.
    flip : bool
        Reflect half of the images.
    validation : float
        Share of the training images held out: 5K of 50K.
    average : float
        Decay per step of an exponential moving average of the weights and the statistics of batch normalisation; after
        t steps (1 + t) / (10 + t) at most, so that the first weights are soon forgotten. 0: no average.
    keep : {"best", "last", "average"}
        Weights that the run gives: of the best epoch on validation, as the paper has it; of the last epoch; the average
        at the end of the last epoch.
    stop_at_collapse : bool
        Stop when adversarial training collapses, see `nets.training.check_collapse`.
    label_smoothing : float
        Share of the label that is spread over all classes, in cross-entropies that are trained on.
    select_on : {"validation", "test"}
        Images on which the best epoch is found. Released code: test, and all training images are trained on.
    n_train : int or None
        Train on so many of the images that are not held out. None: all.
    n_validation : int or None
        Validate on so many of the images held out. None: all.
    validation_n_iter : int
        Steps of the PGD under which the accuracy of adversarial recipes is validated.
    members : tuple of str
        Recipes of separately trained models, of which this one is the mean (section 4.2).
    oracle : str
        Of blind attacks: the recipe of the model that is attacked.
    training_dtype, crafting_dtype : {"auto", "float32", "bfloat16"}
        Precision of the convolutions, in training and while adversarial images are made (autocast; the weights stay
        float32). "auto": bfloat16 on a GPU that has it and on CPUs with AVX-512 instructions for it, else float32.
    channels_last : bool
        Keep images and weights in channels-last memory order.
    compile : {"off", "default", "reduce-overhead"}
        Mode of torch.compile; "reduce-overhead" uses CUDA graphs. The noise then comes from PyTorch's own generator,
        seeded each epoch.
    n_threads : int or None
        Threads of each process, on a CPU. None: PyTorch's choice, by default one a core.
    sync_batch_norm : bool
        Several processes: normalise by the statistics of the whole batch. By default each by those of its part.

    Raises
    ------
    ValueError
        If a field is out of range.
    """

    model: str
    data: str = "cifar10"
    method: Literal["natural", "pgd", "fast", "trades"] = "pgd"
    coef: float = 0.1
    noise: Literal["gaussian", "laplace", "none"] = "gaussian"
    std_over: Literal["batch", "sample"] = "batch"
    weights: Literal["equal", "learned"] = "equal"
    weights_step_size: float = 0.1
    eps: float = 8 / 255
    step_size: float = 2 / 255
    n_iter: int = 10
    random_start: bool = True
    fast_step: float = 1.25
    fast_start: float = 1.0
    fast_projection: bool = True
    crafting_batch_norm: Literal["running", "batch"] = "running"
    beta: float = 6.0
    epochs: int = 200
    batch_size: int = 128
    lr: float = 0.1
    schedule: Literal["steps", "cyclic"] = "steps"
    milestones: tuple[float, ...] = (0.4, 0.6, 0.8)
    decay: float = 0.1
    peak: float = 0.4
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    reset_momentum: bool = False
    padding: int = 4
    flip: bool = True
    validation: float = 0.1
    average: float = 0.0
    keep: Literal["best", "last", "average"] = "best"
    stop_at_collapse: bool = True
    label_smoothing: float = 0.0
    select_on: Literal["validation", "test"] = "validation"
    n_train: int | None = None
    n_validation: int | None = None
    validation_n_iter: int = 10
    members: tuple[str, ...] = ()
    oracle: str = ""
    training_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    crafting_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    n_threads: int | None = None
    sync_batch_norm: bool = False

    def __post_init__(self):
        for name, kind in get_type_hints(Recipe).items():
            if get_origin(kind) is Literal:
                checks.one_of(name, getattr(self, name), get_args(kind))
        for name in ("coef", "eps", "beta", "weight_decay", "momentum", "fast_start", "average"):
            checks.real(name, getattr(self, name), positive=False)
        for name in ("weights_step_size", "step_size", "fast_step", "lr", "decay"):
            checks.real(name, getattr(self, name), positive=True)
        for name in ("n_iter", "batch_size", "validation_n_iter"):
            checks.integer(name, getattr(self, name), at_least=1)
        checks.integer("padding", self.padding, at_least=0)
        checks.integer("epochs", self.epochs, at_least=0 if self.members else 1)
        for name in ("n_train", "n_validation", "n_threads"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name), at_least=1)
        for name, least, most in (("validation", 0, 1), ("peak", 0, 1)):
            if not least < getattr(self, name) < most:
                raise ValueError(f"{name} must be in ({least}, {most}), got {name}={getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got label_smoothing={self.label_smoothing}")
        if not self.average < 1:
            raise ValueError(f"average must be in [0, 1), got average={self.average}")
        if self.keep == "average" and not self.average:
            raise ValueError('average must be > 0 for keep="average", got average=0')
        if not self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got momentum={self.momentum}")
        if self.nesterov and not self.momentum:
            raise ValueError("momentum must be > 0 for nesterov=True, got momentum=0")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones must increase within (0, 1), units of the epochs, got {self.milestones}")

    @property
    def is_adversarial(self):
        """Whether adversarial images are trained on."""
        return self.method != "natural"

    def model_arguments(self, n_classes, mean, std):
        """Return the arguments of `nets.build` that make the model.

        Parameters
        ----------
        n_classes : int
            Length of the output.
        mean, std : sequence of float
            Of each channel.

        Returns
        -------
        dict
        """
        return {
            "name": self.model,
            "n_classes": n_classes,
            "coef": self.coef,
            "noise": None if self.noise == "none" else self.noise,
            "std_over": self.std_over,
            "weights": "learned" if self.weights == "learned" else None,
            "mean": list(mean),
            "std": list(std),
        }

    def build(self, n_classes, mean, std, seed):
        """Build the model, with random weights.

        Parameters
        ----------
        n_classes : int
            Length of the output.
        mean, std : sequence of float
            Of each channel.
        seed : int
            Of the weights.

        Returns
        -------
        ImageClassifier
        """
        return build(**self.model_arguments(n_classes, mean, std), seed=seed)

    def differences(self, other, *, execution=True):
        """Name the fields in which another recipe differs.

        Parameters
        ----------
        other : Recipe or dict
            What to compare with; fields that a dict lacks, the record of an older run, have their defaults.
        execution : bool, default=True
            Compare as well the fields that change speed and rounding, and the path of the data.

        Returns
        -------
        list of str
            "name=theirs (here ours)".
        """
        defaults = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        theirs = defaults | other if isinstance(other, dict) else asdict(other)
        ours = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        theirs = {name: list(value) if isinstance(value, tuple) else value for name, value in theirs.items()}
        skipped = () if execution else EXECUTION
        names = [name for name in sorted({*ours, *theirs}) if name not in skipped]
        return [
            f"{name}={theirs.get(name)} (here {ours.get(name)})"
            for name in names
            if ours.get(name, ...) != theirs.get(name, ...)
        ]


def as_released(recipe):
    """Return the recipe with the released code's deviations from the paper's text, where they are fields.

    eps 0.031 and step 0.007; crafting by the statistics of the batch; momentum lost at each epoch; all training images
    trained on, and the best epoch found on the test set.

    Parameters
    ----------
    recipe : Recipe
        By the paper's text.

    Returns
    -------
    Recipe

    References
    ----------
    .. [1] https://github.com/BaoWangMath/EnResNet, ResNet20.
    """
    changes = {"crafting_batch_norm": "batch", "reset_momentum": True, "select_on": "test"}
    return replace(recipe, eps=0.031, step_size=0.007, **changes)


def recipe(name):
    """Look up a recipe.

    Parameters
    ----------
    name : str
        "table2/en5_resnet20" and the like: a key of RECIPES.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If there is no such recipe; the message names near ones.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.5)
        hint = f"; near ones are {', '.join(near)}" if near else ""
        raise ValueError(f"there is no recipe {name!r}{hint}: --list names them all")
    return RECIPES[name]


def _from_tables():
    """One recipe a row. Rows of blind attacks differ by their oracles from those of the models' own training."""
    settings = {
        "table1": {"method": "natural"},
        "table4": {"method": "natural", "data": "cifar100"},
        "table5": {"data": "cifar100"},
        "table6": {"data": "cifar100"},
        "table10": {"data": "cifar100"},
        "table11": {"noise": "laplace"},
        "section4.4": {"noise": "none"},
    }
    sources = {"table3": "table2", "table6": "table5", "table7": "table2", "section4.4": "table2"}
    made = {}
    for table, rows in ROWS.items():
        for row in rows:
            options = dict(settings.get(table, {}))
            if row.oracle:
                options["oracle"] = f"{sources[table]}/{row.oracle}"
            if table in ("table9", "table10") and "+" in row.model:
                options["weights"] = "learned"
            elif "+" in row.model:
                options |= {"members": tuple(f"{sources[table]}/{term}" for term in row.model.split("+")), "epochs": 0}
            made[f"{table}/{row.model}"] = Recipe(row.model, **options)
    return made


def _for_two_cores():
    shared = {"schedule": "cyclic", "lr": 0.2, "epochs": 30, "n_validation": 500}
    # Ours: where the rate falls to 0 the best of 500 images would choose an epoch by chance.
    shared |= {"keep": "average", "average": 0.999}
    fast = shared | {"method": "fast"}
    natural = shared | {"method": "natural"}
    made = {f"cpu/{model}": Recipe(model, **fast) for model in ("resnet20", "en1_resnet20", "en2_resnet20")}
    # Section 4.4's control: what the mean of two networks brings without noise.
    made["cpu/en2_resnet20-without-noise"] = Recipe("en2_resnet20", noise="none", **fast)
    made |= {f"cpu/{model}-natural": Recipe(model, **natural) for model in ("resnet20", "en1_resnet20")}
    variants = {"laplace": {"noise": "laplace"}, "std-sample": {"std_over": "sample"}}
    variants |= {f"coef{coef:g}": {"coef": coef} for coef in (0.05, 0.2)}
    made |= {
        f"cpu/en1_resnet20-{name}": Recipe("en1_resnet20", **fast, **options) for name, options in variants.items()
    }
    digits = {"data": "digits", "epochs": 10, "batch_size": 64, "eps": 0.15, "step_size": 0.05, "validation_n_iter": 5}
    # They are not symmetric, and so small that a second thread costs more than it brings.
    digits |= {"n_train": None, "n_validation": None, "padding": 1, "flip": False, "n_threads": 1}
    digits |= {"keep": "best", "average": 0.0}
    made["cpu/digits"] = Recipe("en1_resnet20", **(fast | digits))
    return made


RECIPES = _from_tables() | _for_two_cores()


def published(name):
    """Return the paper's row of a recipe.

    Parameters
    ----------
    name : str
        Name of a recipe.

    Returns
    -------
    Row or None
        None for recipes that are not the paper's.
    """
    table, _, model = name.partition("/")
    rows: list[Row] = ROWS.get(table, [])
    return next((row for row in rows if row.model == model), None)
