"""What is trained and how: the fields of a recipe.

The paper's text is the default of every field that it speaks of; `NOT_IN_THE_PAPER` names the others.
"""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Literal, get_args, get_origin, get_type_hints

from bridge import checks
from nets.models import build

__all__ = ["NOT_IN_THE_PAPER", "Recipe"]

# A run may be resumed with others: they change how fast the same is computed, up to rounding, and where images lie,
# which are told apart by their digest.
EXECUTION = ("data", "training_dtype", "crafting_dtype", "channels_last", "compile", "n_threads")
# The released code gives the first three; the others are readings or choices of ours.
NOT_IN_THE_PAPER = {
    "batch_size": "128, as in the released code",
    "momentum": "0.9 with Nesterov's form, as in the released code",
    "nesterov": "as in the released code",
    "weight_decay": "5e-4, as in the released code",
    "std_over": "the paper's Var(x + F(x)) does not say over what; over the batch, as in the released code",
    "crafting_batch_norm": "running statistics; the released code uses the batch's",
    "weights_step_size": "0.1, a choice of ours",
    "validation_n_iter": "10, a choice of ours: the paper's best validation accuracy does not say under which attack",
}


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
        of size fast_step eps (Wong et al. 2020), or of fast_n_iter such steps; clean ones plus beta KL (Zhang et al.
        2019).
    coef : float
        The paper's a: noise of standard deviation a sqrt(Var(x + F(x))).
    noise : {"gaussian", "laplace", "none"}
        Law of the noise in "en..." models.
    std_over : {"batch", "sample"}
        Var over the whole batch, or over each image. No text in the paper: the released code's.
    weights : {"equal", "learned"}
        Weights of the terms of a sum of models, learned once per epoch (section 5).
    weights_step_size : float
        Step of the learned weights along the mean gradient over the epoch. No text in the paper: a choice of ours.
    eps, step_size : float
        Radius and step of the attack, in units of images in [0, 1]. Released code: 0.031 and 0.007.
    n_iter : int
        Steps of PGD, in "pgd" and "trades".
    random_start : bool
        Start from a uniform random point of the ball.
    fast_step : float
        Step of "fast" in units of eps: 1.25 is 10/255 for 8/255.
    fast_n_iter : int
        Steps of "fast". One may collapse, see `nets.training.check_collapse`.
    fast_start : float
        Radius of the random start of "fast" in units of eps. N-FGSM (de Jorge et al. 2022): 2, with fast_step 1.
    fast_projection : bool
        Bring the images of "fast" back into the ball. N-FGSM does not: they stay in [0, 1] alone.
    crafting_batch_norm : {"running", "batch"}
        Batch normalisation while adversarial images are made: by running statistics or the batch's. No text in the
        paper: a choice of ours. Released code: the batch's, which enter the running statistics as well.
    beta : float
        Weight of the KL term of "trades" (1 / lambda there).
    epochs : int
        Passes over the training images. 0: nothing is trained, `members` are put together.
    batch_size : int
        Images in a step, over all processes; what is left over at the end of an epoch is left out. No text in the
        paper: the released code's.
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
        Of stochastic gradient descent. No text in the paper: the released code's.
    nesterov : bool
        Nesterov's form. No text in the paper: the released code's.
    weight_decay : float
        On every weight. No text in the paper: the released code's.
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
        Steps of the PGD under which the accuracy of adversarial recipes is validated. No text in the paper: a choice of
        ours.
    members : tuple of str
        Recipes of separately trained models, of which this one is the mean (section 4.2).
    oracle : str
        Of blind attacks: the recipe of the model that is attacked.
    training_dtype, crafting_dtype : {"auto", "float32", "bfloat16"}
        Precision of the convolutions, in training and while adversarial images are made (autocast; the weights stay
        float32). "auto": bfloat16 on a GPU that has it and on CPUs with AVX-512 instructions for it, else float32.
    channels_last : bool
        Keep images and weights in channels-last memory order.
    compile : {"off", "default", "reduce-overhead", "graph"}
        Mode of torch.compile; "reduce-overhead" uses CUDA graphs. The noise then comes from PyTorch's own generator,
        seeded each epoch. "graph": the whole step as one CUDA graph, without torch.compile, the noise as with "off".
    n_threads : int or None
        Threads of each process, on a CPU. None: PyTorch's choice, by default one per core.
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
    fast_n_iter: int = 1
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
    compile: Literal["off", "default", "reduce-overhead", "graph"] = "off"
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
        for name in ("n_iter", "fast_n_iter", "batch_size", "validation_n_iter"):
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
        """Return the arguments of `nets.build` that make the model; mean and std of each channel."""
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
        """Build the model, with random weights of this seed; mean and std of each channel."""
        return build(**self.model_arguments(n_classes, mean, std), seed=seed)

    def differences(self, other, *, execution=True):
        """Name, as "name=theirs (here ours)", the fields in which another recipe differs.

        Fields that a dict lacks, the record of an older run, have their defaults. execution=False skips the fields that
        change speed and rounding alone, and the path of the data.
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
