"""The training loop: batches cropped and reflected on the device, adversarial images, a step; validation.

All random numbers of an epoch come from generators made at its beginning (`nets.seeds`), so that weights, momentum
and the number of the epoch suffice to resume. Over 300 lines: one loop, to be read from top to bottom.
"""

import contextlib
import copy
import itertools
import time

import torch

from bridge import FeynmanKacMean, noise_from
from nets import attacks, seeds
from nets.data import Batches, draw_shifts, split
from nets.training._losses import adversarial_images, empirical_risk, misalignment
from nets.training._precision import Precision, precisions
from nets.training._schedule import average_decay, learning_rate

__all__ = ["Training"]

# Number of steps that are timed.
N_TIMED = 10


class Training:
    """A model in training.

    Parameters
    ----------
    model : Module
        Images in [0, 1] to logits; trained in place.
    data : Dataset
        Images, which are copied to the device.
    recipe : Recipe
        Method and settings.
    world : World
        Device and processes.
    seed : int, default=0
        Seed of the split, the order, crops and reflections, random starts and noise.

    Attributes
    ----------
    model : Module
        The model.
    averaged : Module or None
        The moving average of the model; None if the recipe has none.
    n_steps : int
        Number of steps per epoch.

    Raises
    ------
    ValueError
        If there are too few images for one batch or none for validation, or the batch cannot be divided evenly.
    """

    def __init__(self, model, data, recipe, world, *, seed=0):
        self.recipe, self.world, self.seed = recipe, world, seed
        if recipe.batch_size % world.n_ranks:
            raise ValueError(f"batch_size must be a multiple of the {world.n_ranks} processes, got {recipe.batch_size}")
        if recipe.grad_align and world.n_ranks > 1:
            raise ValueError(f"grad_align must be 0 in several processes, got grad_align={recipe.grad_align:g}")
        device = world.device
        self.precision = {name: Precision(dtype, device) for name, dtype in precisions(recipe, device).items()}
        data = data.to(device)
        self._choose_images(data)
        self.n_steps = len(self.chosen) // recipe.batch_size
        if not self.n_steps:
            raise ValueError(
                f"batch_size must be <= {len(self.chosen)}, the training images, got batch_size={recipe.batch_size}"
            )
        order = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model.to(device, memory_format=order).train()
        self.averaged = copy.deepcopy(model).requires_grad_(False) if recipe.average else None
        self.model, net = world.share(model, sync_batch_norm=recipe.sync_batch_norm)
        # The attacked and the trained module share their weights.
        self._attacked, self._net = self._compiled(self.model), self._compiled(net)
        mixtures = [module for module in model.modules() if isinstance(module, FeynmanKacMean) and module.learned]
        self.mixture = mixtures[0] if mixtures else None
        skipped = {id(mixture.weights) for mixture in mixtures}
        self._trained = {name: weight for name, weight in model.named_parameters() if id(weight) not in skipped}
        self._optimizer = torch.optim.SGD(
            self._trained.values(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            # One launch for all weights.
            fused=True if device.type == "cuda" else None,
        )

    @property
    def kept(self):
        """The model that the run keeps, in its present state."""
        return self.averaged if self.recipe.keep == "average" else self.model

    @property
    def _is_compiled(self):
        return self.recipe.compile not in ("off", "graph")

    def _compiled(self, module):
        if not self._is_compiled:
            return module
        # Static shapes: there are only two batch sizes, since the last validation batch is smaller.
        return torch.compile(module, mode=self.recipe.compile, dynamic=False)

    def _choose_images(self, data):
        recipe = self.recipe
        n_images = len(data.train_images)
        share = recipe.validation if recipe.select_on == "validation" else 0
        chosen, held_out = split(n_images, share, seeds.derive(self.seed, "split"))
        self.chosen = chosen[: recipe.n_train]
        self._images = Batches(data.train_images, data.train_labels, data.white, channels_last=recipe.channels_last)
        if recipe.select_on == "test":
            self._held_out = Batches(data.test_images, data.test_labels, data.white, channels_last=recipe.channels_last)
            held_out = torch.arange(len(data.test_images))
        else:
            self._held_out = self._images
        held_out = held_out[: recipe.n_validation]
        if not len(held_out):
            raise ValueError(f"validation must hold out at least one of {n_images} images, got {recipe.validation}")
        self.n_held_out = len(held_out)
        self._held_out_part = held_out[self.world.part(len(held_out))].to(data.train_images.device)

    def epoch(self, number, advance=None):
        """Train for epoch `number`, from 1, and validate; return the metrics, a dict.

        "lr" is the rate of the last step, "accuracy" that on the training images, "selected" the accuracy that decides
        which epoch is kept. `advance` is called after each step with the sum of the losses and their number.
        """
        began = time.perf_counter()
        recipe, world = self.recipe, self.world
        self.model.train()
        if recipe.reset_momentum:
            self._optimizer.state.clear()
        try:
            rate, totals = self._steps(number, advance)
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {number}: {error}, or try a smaller lr than {recipe.lr:g}") from None
        if self.mixture is not None:
            # The mean gradient over the epoch, so that the step does not depend on the number of batches.
            self.mixture.weights.grad /= self.n_steps
            self.mixture.update_weights(recipe.weights_step_size)
        totals = world.sum(totals).tolist()
        n_images = self.n_steps * recipe.batch_size
        seconds = time.perf_counter() - began
        loss = totals[0] / (self.n_steps * world.n_ranks)
        if not abs(loss) < float("inf"):
            raise FloatingPointError(f"the loss of epoch {number} is {loss}: try a smaller lr than {recipe.lr:g}")
        world.average_buffers(self.model)
        clean, adversarial = self.validate(number)
        scores = {"validation": clean, "validation_adversarial": adversarial}
        if self.averaged is not None:
            self._finish_average()
            scores["average"], scores["average_adversarial"] = self.validate(number, self.averaged)
        prefix = "average" if recipe.keep == "average" else "validation"
        weights = [] if self.mixture is None else self.mixture.weights.tolist()
        return {
            "epoch": number,
            "lr": rate,
            "loss": loss,
            "accuracy": totals[1] / n_images,
            "validation": clean,
            "validation_adversarial": adversarial,
            "selected": scores[f"{prefix}_adversarial" if recipe.is_adversarial else prefix],
            "images_per_second": n_images / seconds,
            "seconds": time.perf_counter() - began,
            "time": time.time(),
            **{f"weight_{k + 1}": weight for k, weight in enumerate(weights)},
            **{name: score for name, score in scores.items() if name.startswith("average")},
        }

    def _steps(self, number, advance):
        """Take the steps of an epoch; return the last rate, and the sums of losses and of correct predictions."""
        recipe = self.recipe
        totals = torch.zeros(2, dtype=torch.float64, device=self.world.device)
        with self._drawing("noise", number):
            for step, (x, y) in enumerate(self._batches(number)):
                n_done = (number - 1) * self.n_steps + step
                rate = learning_rate(recipe, n_done, recipe.epochs * self.n_steps)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                loss, n_right = self._step(x, y)
                self._update_average(n_done)
                totals += torch.stack([loss.double(), n_right.double()])
                if advance is not None:
                    advance(totals[0], step + 1)
        return rate, totals

    def _step(self, x, y):
        x_adv = None
        if self.recipe.is_adversarial:
            with self.precision["crafting"]():
                x_adv = adversarial_images(self._attacked, x, y, self.recipe, self._attack_generator)
        self._optimizer.zero_grad()
        with self.precision["training"]():
            loss, logits = empirical_risk(self._net, x, y, self.recipe, x_adv)
            if self.recipe.grad_align:
                apart = misalignment(self._net, x, y, self.recipe.eps, self._attack_generator)
                loss = loss + self.recipe.grad_align * apart
        loss.backward()
        self._optimizer.step()
        return loss.detach(), (logits.argmax(1) == y).sum()

    @torch.no_grad()
    def _update_average(self, n_done):
        if self.averaged is None:
            return
        share = 1 - average_decay(self.recipe, n_done)
        torch._foreach_lerp_(_floating(self.averaged), _floating(self.model), share)

    @torch.no_grad()
    def _finish_average(self):
        """Copy the counts of batch normalisation, which are not averaged, from the model."""
        for target, source in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            if not target.is_floating_point():
                target.copy_(source)
        self.world.average_buffers(self.averaged)

    def seconds_per_step(self):
        """Seconds of a first step, including compilation, and the mean of N_TIMED later ones; the weights change."""
        if self.n_steps < 2:
            raise ValueError(f"an epoch must have at least 2 steps to be timed, got {self.n_steps}")
        self.model.train()
        batches = itertools.islice(self._batches(1), N_TIMED + 1)
        times = [time.perf_counter()]
        with self._drawing("noise", 1):
            for x, y in batches:
                loss, _ = self._step(x, y)
                # Synchronises with the device.
                loss.item()
                times.append(time.perf_counter())
        return times[1] - times[0], (times[-1] - times[1]) / (len(times) - 2)

    def _batches(self, number):
        """This process's part of every batch of an epoch."""
        recipe, device = self.recipe, self.world.device
        generator = seeds.make_generator(self.seed, "order", number)
        order = self.chosen[torch.randperm(len(self.chosen), generator=generator)].to(device)
        shifts = draw_shifts(len(order), padding=recipe.padding, flip=recipe.flip, generator=generator).at(device)
        part = self.world.part(recipe.batch_size)
        for step in range(self.n_steps):
            at = slice(step * recipe.batch_size + part.start, step * recipe.batch_size + part.stop)
            yield self._images.take(order[at], shifts.at(at))

    @contextlib.contextmanager
    def _drawing(self, purpose, number, model=None):
        """Draw the noise of a model and the starts of attacks from generators of this purpose and epoch."""
        place = (number, self.world.rank)
        if self._is_compiled:
            self._attack_generator = None
            with seeds.default_generator_seeded(seeds.derive(self.seed, purpose, *place), self.world.device):
                yield
            return
        device = self.world.device
        self._attack_generator = seeds.make_generator(self.seed, f"{purpose} of attack", *place, device=device)
        noise = seeds.make_generator(self.seed, purpose, *place, device=device)
        with noise_from(self.model if model is None else model, noise):
            yield

    def validate(self, number, model=None):
        """Accuracy on the validation images, and that under PGD with validation_n_iter steps (None for "natural").

        Noise and random starts depend on the epoch; `model` is by default the one in training.
        """
        recipe, world = self.recipe, self.world
        n_right = torch.zeros(2, dtype=torch.float64, device=world.device)
        options = {"eps": recipe.eps, "step_size": recipe.step_size, "n_iter": recipe.validation_n_iter}
        attacked = self._attacked if model is None else model
        model = self.model if model is None else model
        with self._drawing("validation", number, model):
            # An empty part splits into one empty batch, which is dropped.
            for chosen in filter(len, self._held_out_part.split(recipe.batch_size)):
                x, y = self._held_out.take(chosen)
                n_right[0] += self._n_right(model, x, y)
                if recipe.is_adversarial:
                    # In training mode, in which one draw per step raises no NoisyModelWarning.
                    model.train()
                    with self.precision["crafting"]():
                        x_adv = attacks.pgd(attacked, x, y, generator=self._attack_generator, **options)
                    n_right[1] += self._n_right(model, x_adv, y)
        model.train()
        clean, adversarial = (world.sum(n_right) / self.n_held_out).tolist()
        return clean, adversarial if recipe.is_adversarial else None

    def _n_right(self, model, x, y):
        model.eval()
        with torch.no_grad(), self.precision["training"]():
            return (model(x).argmax(1) == y).sum()

    def state(self):
        """State to resume from: weights and buffers, their averages, and the momentum of each weight."""
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.averaged is not None:
            state |= {f"average.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        for name, weight in self._trained.items():
            momentum = self._optimizer.state[weight].get("momentum_buffer")
            if momentum is not None:
                state[f"momentum.{name}"] = momentum
        return state

    def restore(self, state):
        """Restore what `state` returned; ValueError if it is the state of another model."""
        try:
            self.model.load_state_dict(_part(state, "model."))
            if self.averaged is not None:
                self.averaged.load_state_dict(_part(state, "average."))
            for name, weight in self._trained.items():
                if f"momentum.{name}" in state:
                    # In the memory order of the weight.
                    momentum = torch.empty_like(weight, requires_grad=False).copy_(state[f"momentum.{name}"])
                    self._optimizer.state[weight]["momentum_buffer"] = momentum
        except RuntimeError as error:
            raise ValueError(f"the state is from another model ({str(error).splitlines()[0]})") from None


def _floating(model):
    """Weights and running statistics of a model."""
    return [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]


def _part(state, prefix):
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
