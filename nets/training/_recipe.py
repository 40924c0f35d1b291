"""The fields of a recipe: the model, and the method and settings of its training.

Defaults are from the paper's text where it specifies them; `NOT_IN_THE_PAPER` lists the other fields.
"""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Literal, get_args, get_origin, get_type_hints

from bridge import checks
from nets.models import build

__all__ = ["NOT_IN_THE_PAPER", "Recipe"]

# Fields that may differ on resume: they affect speed and rounding only, or the path of images, which have a digest.
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
    """The model, and the method and settings of its training.

    Parameters
    ----------
    model : str
        Name of the model, as for `nets.build`.
    data : str
        "digits", "cifar10", "cifar100", or the path of a folder or .tar archive of train/<class>/*, test/<class>/*.
    method : {"natural", "pgd", "fast", "trades"}
        Training method. "natural" minimises the loss on clean images; "pgd" on images from PGD (Algorithm 3.1); "fast"
        on images from fast_n_iter steps of size fast_step eps from a random start (Wong et al. 2020, with one);
        and "trades" the loss on clean images plus beta KL (Zhang et al. 2019).
    coef : float
        The paper's a: noise of standard deviation a sqrt(Var(x + F(x))).
    noise : {"gaussian", "laplace", "none"}
        Distribution of the noise in "en..." models.
    std_over : {"batch", "sample"}
        Whether Var is taken over the whole batch or over each image. Not in the paper: as in the released code.
    weights : {"equal", "learned"}
        Weights of the terms of a sum of models: equal, or learned once per epoch (section 5).
    weights_step_size : float
        Step size of the learned weights along the mean gradient of the epoch. Not in the paper: our choice.
    eps : float
        Radius of the attack, in units of images in [0, 1]. Released code: 0.031.
    step_size : float
        Step size of the attack, in the same units. Released code: 0.007.
    n_iter : int
        Number of steps of PGD, for "pgd" and "trades".
    random_start : bool
        Whether to start from a uniform random point of the ball.
    fast_step : float
        Step size of "fast" in units of eps: 1.25 is 10/255 for 8/255.
    fast_n_iter : int
        Number of steps of "fast". With one step training may collapse, see `nets.training.check_collapse`.
    fast_start : float
        Radius of the random start of "fast" in units of eps. N-FGSM (de Jorge et al. 2022): 2, with fast_step 1.
    fast_projection : bool
        Whether to project the images of "fast" onto the ball. N-FGSM does not: it only clips to [0, 1].
    grad_align : float
        Weight of GradAlign (Andriushchenko & Flammarion 2020) in the risk, against a collapse of "fast":
        of 1 - cos between the gradients of the loss at an image and at a uniform random point of its ball. 0: none.
        Theirs: 0.2. On a CPU a step takes three and a half times as long.
    crafting_batch_norm : {"running", "batch"}
        Statistics used by batch normalisation while adversarial images are made. Not in the paper: our choice.
        Released code: those of the batch, which also update the running statistics.
    beta : float
        Weight of the KL term of "trades" (there 1 / lambda).
    epochs : int
        Number of passes over the training images. 0: nothing is trained, the model is the mean of `members`.
    batch_size : int
        Number of images per step, over all processes; an incomplete last batch is dropped. Not in the paper: as in the
        released code.
    lr : float
        Learning rate; for "cyclic", the largest one.
    schedule : {"steps", "cyclic"}
        Learning rate over time. "steps": lr decay^k, k the number of milestones passed; "cyclic": linear from 0 to lr
        at peak, and back to 0.
    milestones : tuple of float
        Milestones of "steps", as fractions of the training: the paper's 80, 120 and 160 of 200 epochs.
    decay : float
        Factor of the learning rate at a milestone.
    peak : float
        Peak of "cyclic", as a fraction of the training.
    momentum : float
        Momentum of stochastic gradient descent. Not in the paper: as in the released code.
    nesterov : bool
        Whether to use Nesterov's form of momentum. Not in the paper: as in the released code.
    weight_decay : float
        Weight decay, of every parameter. Not in the paper: as in the released code.
    reset_momentum : bool
        Whether to reset the momentum at every epoch, as the released code does by making a new optimiser.
    padding : int
        Number of zeros added on each side before a random crop.
    flip : bool
        Whether to reflect half of the images.
    validation : float
        Share of the training images held out for validation: 5K of 50K.
    average : float
        Decay per step of an exponential moving average of weights and running statistics; after t steps
        at most (1 + t) / (10 + t), so that the initial weights are soon forgotten. 0: no average.
    keep : {"best", "last", "average"}
        Weights that the run keeps: those of the best epoch on validation images, as in the paper; of the last epoch; or
        the average at the end of the last epoch.
    stop_at_collapse : bool
        Whether to stop when adversarial training collapses, see `nets.training.check_collapse`.
    label_smoothing : float
        Share of the label that is spread over all classes, in the cross-entropy of the training.
    select_on : {"validation", "test"}
        Images that determine the best epoch. Released code: test, with training on all training images.
    n_train : int or None
        Number of training images among those that are not held out. None: all.
    n_validation : int or None
        Number of validation images among those held out. None: all.
    validation_n_iter : int
        Number of steps of PGD for the validation accuracy of adversarial recipes. Not in the paper: our choice.
    members : tuple of str
        Recipes of separately trained models of which this model is the mean (section 4.2).
    oracle : str
        For blind attacks: recipe of the model on which they are made.
    training_dtype, crafting_dtype : {"auto", "float32", "bfloat16"}
        Precision of the convolutions, in training and while adversarial images are made (autocast; weights remain
        float32). "auto": bfloat16 on GPUs and CPUs with fast instructions for it, else float32.
    channels_last : bool
        Whether images and weights are in channels-last memory order.
    compile : {"off", "default", "reduce-overhead", "graph"}
        Mode of torch.compile; "reduce-overhead" uses CUDA graphs. The noise is then drawn from PyTorch's own generator,
        seeded at every epoch. "graph": the whole step as one CUDA graph, without torch.compile, with the noise of
        "off".
    n_threads : int or None
        Number of threads per process on a CPU. None: PyTorch's choice, by default one per core.
    sync_batch_norm : bool
        Whether several processes normalise by the statistics of the whole batch, instead of those of their parts.

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
    grad_align: float = 0.0
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
        for name in ("coef", "eps", "beta", "weight_decay", "momentum", "fast_start", "grad_align", "average"):
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
        for name in ("validation", "peak"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {name}={getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got label_smoothing={self.label_smoothing}")
        if not self.average < 1:
            raise ValueError(f"average must be in [0, 1), got average={self.average}")
        if self.keep == "average" and not self.average:
            raise ValueError('average must be > 0 for keep="average", got average=0')
        if not self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got momentum={self.momentum}")
        if self.grad_align and (self.method != "fast" or self.compile != "off"):
            raise ValueError(
                f'grad_align must be 0 unless method="fast" and compile="off", got grad_align={self.grad_align:g}'
            )
        if self.nesterov and not self.momentum:
            raise ValueError("momentum must be > 0 for nesterov=True, got momentum=0")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones must increase within (0, 1), fractions of the epochs, got {self.milestones}")

    @property
    def is_adversarial(self):
        """Whether the training uses adversarial images."""
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
        """List the fields in which another recipe, or the record of one, differs, as "name=OTHER (here VALUE)".

        Fields that a record of an older run lacks have their defaults. execution=False skips the fields that affect
        speed and rounding only, and the path of the data.
        """
        defaults = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        pair = asdict(self), defaults | other if isinstance(other, dict) else asdict(other)
        here, there = ({k: list(v) if isinstance(v, tuple) else v for k, v in each.items()} for each in pair)
        skipped = () if execution else EXECUTION
        names = [name for name in sorted({*here, *there}) if name not in skipped]
        return [
            f"{name}={there.get(name)} (here {here.get(name)})"
            for name in names
            if here.get(name, ...) != there.get(name, ...)
        ]
