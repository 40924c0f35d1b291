"""Attacks on a model one after the other, every batch kept as soon as it is done.

Results lie in a directory of files, one an attack, named by a digest of all they depend on: settings, weights, images,
seed. A second call goes on where the first one ended, and a changed setting finds no file. Random numbers are those of
the file and the batch, so that what is interrupted gives what it would have given.
"""

import contextlib
import hashlib
import json
import sys
import time
import warnings
from dataclasses import dataclass

import torch
from tqdm import tqdm

from bridge import noise_off, noisy_blocks
from nets import checkpoint, seeds
from nets.attacks import NoisyModelWarning
from nets.evaluation._answers import answers
from nets.evaluation._attack_specs import Attack, parse

__all__ = ["Evaluation", "Outcome"]

# Of this program: results of an older way to compute them are not taken for those of a newer.
PROTOCOL = 2
# Least time between two writes of one file.
SECONDS = 1.0
# Of x + eps in single precision.
ROUNDING = 1e-6
# Passes whose graphs a batch of full size holds at once.
GRAPHS = 5


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack made of the images.

    Parameters
    ----------
    attack : Attack
        The attack.
    right : Tensor of shape (n_images, n_repeats)
        bool: whether the mean over the draws is right. False for images that were not attacked.
    draws : Tensor of shape (n_images, n_repeats, n_draws)
        bool: whether each draw alone is right.
    attacked : Tensor of shape (n_images,)
        bool: whether the image was attacked; the others are answered wrong in every repeat.
    distance : Tensor of shape (n_images,)
        Of the attacked image in the maximum norm.
    seconds : float
        Time.
    n_passes, n_gradients : int
        Images that went through networks, and of these the ones that came back with a gradient.
    """

    attack: Attack
    right: torch.Tensor
    draws: torch.Tensor
    attacked: torch.Tensor
    distance: torch.Tensor
    seconds: float
    n_passes: int
    n_gradients: int


class Evaluation:
    """A model, images, and the results so far.

    Parameters
    ----------
    model : Module
        Images to logits; with `bridge.NoisyResidual` blocks where it draws.
    images : Batches
        On the model's device.
    order : Tensor of shape (n_images,)
        Images in the order in which attacks take their first so many.
    directory : Path
        Of the files.
    identity : dict
        What JSON can hold of weights and data: the results are theirs.
    oracle : Module, optional
        Attacked by blind attacks.
    oracle_identity : str, optional
        The same of the oracle.
    seed : int, default=0
        Of attacks and noise.
    n_draws, n_repeats : int
        Of the answers of a model that draws.
    batch_size : int, default=128
        Images attacked, and asked about, at once.
    progress : bool, default=False
        Show a progress bar, if standard error is a terminal.

    Attributes
    ----------
    is_noisy : bool
        Whether the model draws.
    """

    def __init__(
        self,
        model,
        images,
        order,
        directory,
        identity,
        *,
        oracle=None,
        oracle_identity=None,
        seed=0,
        n_draws=10,
        n_repeats=5,
        batch_size=128,
        progress=False,
    ):
        self.model, self.images = model, images
        self.oracle, self.oracle_identity = oracle, oracle_identity
        self.order, self.directory = order.to(images.images.device), directory
        self.seed, self.n_draws, self.n_repeats, self.batch_size = seed, n_draws, n_repeats, batch_size
        self.progress = progress
        self.is_noisy = any(block.is_noisy for block in noisy_blocks(model))
        conditions = {"seed": seed, "n_draws": n_draws, "n_repeats": n_repeats, "batch_size": batch_size}
        device = images.images.device.type
        self.identity = identity | conditions | {"order": order.tolist(), "device": device, "protocol": PROTOCOL}
        self._done = {}

    def natural(self, attack):
        """Return how the images are answered that an attack begins with: with the noise as it is after the attack.

        Parameters
        ----------
        attack : Attack
            Attack.

        Returns
        -------
        Outcome
        """
        name = "natural" if attack.noise else "noise-off-natural"
        return self.run(parse(name, is_noisy=self.is_noisy, n_images=len(self.order)))

    def run(self, attack):
        """Attack, or go on with it, or return what is there.

        Parameters
        ----------
        attack : Attack
            Its n_images are those of `order` at most.

        Returns
        -------
        Outcome

        Raises
        ------
        ArithmeticError
            If the attack leaves its ball or the cube of images, or the logits are not finite.
        """
        is_natural = attack.base == "natural"
        key = self._key(attack, None if is_natural else self._key(self.natural(attack).attack, None))
        if key not in self._done:
            self._done[key] = self._run(attack, key, is_natural)
        return self._done[key]

    def _key(self, attack, reference):
        told = {"settings": attack.settings(), "identity": self.identity, "natural": reference}
        if attack.source == "oracle":
            told["oracle"] = self.oracle_identity
        return hashlib.sha256(json.dumps(told, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]

    def _run(self, attack, key, is_natural):
        n, noisy = attack.n_images, self.is_noisy and attack.noise
        n_repeats, n_draws = (self.n_repeats, self.n_draws) if noisy else (1, 1)
        everywhere = is_natural or attack.everywhere
        chosen = torch.ones(n, dtype=torch.bool) if everywhere else self.natural(attack).right[:n].any(1)
        size = self.batch_size
        if attack.eot == "logits":
            size = max(1, size * GRAPHS // max(GRAPHS, attack.n_eot))
        # Of an empty part, split makes an empty batch.
        batches = list(filter(len, chosen.nonzero().flatten().split(size)))
        path = self.directory / f"{attack.source}-{attack.base}-{key}.safetensors"
        state, record = self._read(path, key) or (
            {
                "right": torch.zeros(n, n_repeats, dtype=torch.bool),
                "draws": torch.zeros(n, n_repeats, n_draws, dtype=torch.bool),
                "distance": torch.zeros(n),
            },
            {"key": key, "attack": attack.settings(), "n_batches": 0, "seconds": 0.0, "n_passes": 0, "n_gradients": 0},
        )
        began = written = time.monotonic()
        n_done = sum(len(batch) for batch in batches[: record["n_batches"]])
        bar = tqdm(
            total=sum(map(len, batches)),
            initial=n_done,
            desc=attack.name,
            unit="img",
            leave=False,
            disable=None if self.progress else True,
        )
        with bar, self._counting(record):
            for number in range(record["n_batches"], len(batches)):
                batch = batches[number]
                x, y = self.images.take(self.order[batch.to(self.order.device)])
                x_adv = x if is_natural else self._attack(attack, x, y, self._generator(key, "attack", number, x))
                off = contextlib.nullcontext() if attack.noise else noise_off(self.model)
                generator = self._generator(key, "answers", number, x)
                with off:
                    right, draws = answers(
                        self.model, x_adv, y, n_repeats=n_repeats, n_draws=n_draws, generator=generator
                    )
                state["right"][batch], state["draws"][batch] = right.cpu(), draws.cpu()
                state["distance"][batch] = (x_adv - x).abs().flatten(1).amax(1).cpu()
                now = time.monotonic()
                record["seconds"], began = record["seconds"] + now - began, now
                record["n_batches"] = number + 1
                if now - written >= SECONDS or number + 1 == len(batches):
                    self.directory.mkdir(parents=True, exist_ok=True)
                    checkpoint.write(path, "evaluation", state, record)
                    written = now
                bar.update(len(batch))
        told = {name: record[name] for name in ("seconds", "n_passes", "n_gradients")}
        return Outcome(attack, attacked=chosen, **state, **told)

    def _read(self, path, key):
        if not path.is_file():
            return None
        try:
            state, record = checkpoint.read(path, "evaluation")
        except ValueError as error:
            sys.stderr.write(f"{error}: it is made again\n")
            return None
        return (state, record) if record.get("key") == key else None

    def _generator(self, key, purpose, number, x):
        return seeds.make_generator(self.seed, f"{key} {purpose}", number, device=x.device)

    def _attack(self, attack, x, y, generator):
        model = self.oracle if attack.source == "oracle" else self.model
        off = noise_off(model) if attack.source == "noise-off" else contextlib.nullcontext()
        with off, warnings.catch_warnings():
            # One draw a step is one of the rows, and named so.
            warnings.simplefilter("ignore", NoisyModelWarning)
            x_adv = attack(model, x, y, generator=generator)
        far = (x_adv - x).abs().max().item()
        # What was released does not clip.
        outside = attack.base != "cw-as-released" and not (x_adv.min() >= 0 and x_adv.max() <= 1)
        if outside or (attack.is_bounded and not far <= attack.eps + ROUNDING):
            raise ArithmeticError(f"{attack.name} went {far:g} away with eps={attack.eps:g}, or left the images' cube")
        return x_adv

    @contextlib.contextmanager
    def _counting(self, record):
        """Count the images that go through the networks."""

        def count(_, arguments):
            x = arguments[0]
            record["n_passes"] += len(x)
            record["n_gradients"] += len(x) if torch.is_grad_enabled() and x.requires_grad else 0

        models = {id(model): model for model in (self.model, self.oracle) if model is not None}
        hooks = [model.register_forward_pre_hook(count) for model in models.values()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
