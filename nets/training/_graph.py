"""A training whose step – crop, attack, gradient, SGD, average – is one CUDA graph.

A step of a small network consists of hundreds of short kernels, and launching them one by one from Python takes longer
than running them. Captured once and replayed, they compute the same as `Training` up to rounding. On a CPU the step is
called directly, which tests everything except the capture.
"""

import torch

from bridge import noise_from
from nets import seeds
from nets.data import Shifts, draw_shifts
from nets.training._losses import adversarial_images, empirical_risk
from nets.training._schedule import average_decay, learning_rate
from nets.training._trainer import Training, _floating

__all__ = ["GraphTraining", "make_training"]

N_WARM_UP = 3


def make_training(model, data, recipe, world, *, seed=0):
    """Return the training of a recipe: one with CUDA graphs if recipe.compile is "graph".

    Parameters
    ----------
    model, data, recipe, world, seed
        Arguments of `Training`.

    Returns
    -------
    Training
    """
    kind = GraphTraining if recipe.compile == "graph" else Training
    return kind(model, data, recipe, world, seed=seed)


class GraphTraining(Training):
    """As `Training`, for one process and without learned weights of a sum; ValueError otherwise."""

    def __init__(self, model, data, recipe, world, *, seed=0):
        super().__init__(model, data, recipe, world, seed=seed)
        if self.mixture is not None or world.n_ranks > 1:
            raise ValueError("compile must be off, default or reduce-overhead for learned weights or several processes")
        self._replay = None

    def restore(self, state):
        """Restore what `state` returned; the graph is captured again, since it contains addresses of tensors."""
        super().restore(state)
        self._replay = None

    def _steps(self, number, advance):
        if self._replay is None:
            self._build(number)
        self._fill(number)
        for step in range(self.n_steps):
            self._replay()
            if advance is not None:
                advance(self._totals[0], step + 1)
        rate = learning_rate(self.recipe, number * self.n_steps - 1, self.recipe.epochs * self.n_steps)
        return rate, self._totals.clone()

    def _fill(self, number):
        """Copy the order, crops, rates and seeds of an epoch to where the graph reads them."""
        recipe, n = self.recipe, len(self.chosen)
        generator = seeds.make_generator(self.seed, "order", number)
        self._order.copy_(self.chosen[torch.randperm(n, generator=generator)])
        shifts = draw_shifts(n, padding=recipe.padding, flip=recipe.flip, generator=generator)
        for target, source in zip(self._shifts[:3], shifts[:3], strict=True):
            target.copy_(source)
        steps = range((number - 1) * self.n_steps, number * self.n_steps)
        self._rates.copy_(torch.tensor([learning_rate(recipe, t, recipe.epochs * self.n_steps) for t in steps]))
        self._shares.copy_(torch.tensor([1 - average_decay(recipe, t) for t in steps]))
        self._counter.zero_()
        self._totals.zero_()
        if recipe.reset_momentum:
            torch._foreach_zero_(self._momenta)
        place = (number, self.world.rank)
        self._attack_noise.manual_seed(seeds.derive(self.seed, "noise of attack", *place))
        self._noise.manual_seed(seeds.derive(self.seed, "noise", *place))

    def _build(self, number):
        recipe, device, n = self.recipe, self.world.device, len(self.chosen)
        whole = {"dtype": torch.int64, "device": device}
        self._order, rows, columns = (torch.zeros(n, **whole) for _ in range(3))
        self._shifts = Shifts(rows, columns, torch.zeros(n, dtype=torch.bool, device=device), recipe.padding)
        self._rates, self._shares = (torch.zeros(self.n_steps, device=device) for _ in range(2))
        self._counter, self._within = torch.zeros(1, **whole), torch.arange(recipe.batch_size, device=device)
        self._totals = torch.zeros(2, dtype=torch.float64, device=device)
        self._weights = list(self._trained.values())
        for weight in self._weights:
            if self._optimizer.state[weight].get("momentum_buffer") is None:
                # The first step of SGD sets the momentum to the gradient, as adding it to 0 does.
                self._optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight, requires_grad=False)
        self._momenta = [self._optimizer.state[weight]["momentum_buffer"] for weight in self._weights]
        self._attack_noise, self._noise = (torch.Generator(device) for _ in range(2))
        self._replay = self._uncaptured if device.type == "cpu" else self._captured(number)

    def _uncaptured(self):
        with noise_from(self.model, self._noise):
            self._whole_step()

    def _captured(self, number):
        self._fill(number)
        kept = {name: tensor.clone() for name, tensor in self.state().items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream), noise_from(self.model, self._noise):
                for _ in range(N_WARM_UP):
                    self._whole_step()
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            # Undo the steps of the warm-up.
            for name, tensor in self.state().items():
                tensor.copy_(kept[name])
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._attack_noise)
            graph.register_generator_state(self._noise)
            with noise_from(self.model, self._noise), torch.cuda.graph(graph):
                self._whole_step()
            torch.cuda.synchronize()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"compile must be off here: the step cannot be captured in a graph ({reason})") from None
        return graph.replay

    def _whole_step(self):
        recipe = self.recipe
        at = self._counter * recipe.batch_size + self._within
        x, y = self._images.take(self._order[at], Shifts(*(part[at] for part in self._shifts[:3]), recipe.padding))
        x_adv = None
        if recipe.is_adversarial:
            with self.precision["crafting"]():
                x_adv = adversarial_images(self._attacked, x, y, recipe, self._attack_noise)
        with self.precision["training"]():
            loss, logits = empirical_risk(self._net, x, y, recipe, x_adv)
        self._descend(list(torch.autograd.grad(loss, self._weights)))
        self._totals += torch.stack([loss.detach().double(), (logits.argmax(1) == y).sum().double()])
        self._counter += 1

    @torch.no_grad()
    def _descend(self, gradients):
        """SGD and the moving average, with rate and share read from the device."""
        recipe = self.recipe
        rate, share = self._rates[self._counter].squeeze(), self._shares[self._counter].squeeze()
        if recipe.weight_decay:
            torch._foreach_add_(gradients, self._weights, alpha=recipe.weight_decay)
        if recipe.momentum:
            torch._foreach_mul_(self._momenta, recipe.momentum)
            torch._foreach_add_(self._momenta, gradients)
            if recipe.nesterov:
                torch._foreach_add_(gradients, self._momenta, alpha=recipe.momentum)
            else:
                gradients = [momentum.clone() for momentum in self._momenta]
        torch._foreach_mul_(gradients, rate)
        torch._foreach_sub_(self._weights, gradients)
        if self.averaged is not None:
            averages = _floating(self.averaged)
            torch._foreach_mul_(averages, 1 - share)
            torch._foreach_add_(averages, torch._foreach_mul(_floating(self.model), share))
