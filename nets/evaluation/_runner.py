"""Runs attacks on a model one after the other, saving each batch as soon as it is finished.

Results are kept in a directory, one file per attack, named by a digest of everything they depend on: settings, weights,
images, seed. A second call resumes where the first one ended; with a changed setting it finds no file. Random numbers
are keyed by file and batch, so that an interrupted and resumed evaluation gives the same results.
"""

import contextlib
import hashlib
import json
import sys
import time
from dataclasses import dataclass

import torch
from tqdm import tqdm

from bridge import noise_off
from nets import checkpoint, seeds
from nets.attacks import admitted, attacked, draw_logits, is_noisy, make_ball, n_images_differing, single
from nets.evaluation._attack_specs import AttackSpec, parse

# Bump when the computation changes, so that cached results are not reused.
PROTOCOL = 4
# Smallest time between two writes of a file, in seconds.
SECONDS = 1.0
# Rounding of x + eps in single precision, relative to the largest distance; absolute where that is below 1.
ROUNDING = 1e-6
# Number of passes whose graphs fit into memory for a batch of full size.
GRAPHS = 5


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of an attack: bool `right` (n_images, n_repeats) by the mean over the draws, `draws` (n_images, n_repeats,
    n_draws) by each draw alone, `attacked` (n_images,), and `distance` (n_images,) in the norm.

    `right` is False for images that were not attacked, since they are misclassified in every repeat. `n_passes` and
    `n_gradients` count images that went through networks, and those for which a gradient was computed. `x_adv` are the
    attacked images if they are kept. A model that seems deterministic is evaluated twice, and `n_differing` counts the
    images for which the two passes differ.
    """

    attack: AttackSpec
    right: torch.Tensor
    draws: torch.Tensor
    attacked: torch.Tensor
    distance: torch.Tensor
    seconds: float
    n_passes: int
    n_gradients: int
    x_adv: torch.Tensor | None = None
    n_differing: int = 0


def predictions(model, x, y, *, n_repeats, n_draws, generator=None):
    """Return which predictions are correct, (n_images, n_repeats) by means over n_draws, and those of each draw.

    The third value counts the images for which a second pass differs, if n_draws = n_repeats = 1.
    """
    right, draws, n_differing = [], [], 0
    with attacked(model, generator=generator):
        for _ in range(n_repeats):
            logits = draw_logits(model, x, n_draws)
            draws.append((logits.argmax(2) == y).T)
            right.append(logits.mean(0).argmax(1) == y)
        if n_repeats * n_draws == 1:
            n_differing = n_images_differing(logits[0], draw_logits(model, x)[0])
    return torch.stack(right, 1), torch.stack(draws, 1), n_differing


class AttackRunner:
    """A model, images, and the results so far.

    Parameters
    ----------
    model : Module
        Images to logits.
    images : Batches
        Images, with the tensor `images` and a method `take(indices)` that returns images in [0, 1] and labels.
    order : Tensor of shape (n_images,)
        Indices of the images; an attack on n images takes the first n.
    directory : Path or None
        Directory of the files of results; None keeps no files.
    identity : dict
        JSON values that identify weights and data, on which the results depend.
    norm : {"linf", "l2"}
        Norm of the attacks.
    oracle : (Module, str), optional
        Model on which blind attacks are made, and its identity.
    guide : (Module, str), optional
        Model that replaces `model` in attacks that use gradients, and the identity of the surrogate in it.
    seed : int, default=0
        Seed of attacks and noise.
    n_draws, n_repeats : int
        Number of draws per prediction, and of predictions per image, if the model is noisy.
    batch_size : int, default=128
        Number of images per batch.
    keep_images : bool, default=False
        Whether to keep the attacked images.
    progress : bool, default=False
        Whether to show progress bars, if standard error is a terminal.
    """

    def __init__(
        self,
        model,
        images,
        order,
        directory,
        identity,
        *,
        norm="linf",
        oracle=None,
        guide=None,
        seed=0,
        n_draws=10,
        n_repeats=5,
        batch_size=128,
        keep_images=False,
        progress=False,
    ):
        self.model, self.images = model, images
        self.guide, guide_identity = (None, False) if guide is None else guide
        self.oracle, self.oracle_identity = (None, None) if oracle is None else oracle
        self.order, self.directory = order.to(images.images.device), directory
        self.norm, self.ball = norm, make_ball(norm, 1.0)
        self.seed, self.n_draws, self.n_repeats, self.batch_size = seed, n_draws, n_repeats, batch_size
        self.keep_images, self.progress = keep_images, progress
        x, _ = images.take(self.order[:batch_size])
        with attacked(model, generator=seeds.make_generator(seed, "does it draw?", device=x.device)):
            self.is_noisy = is_noisy(model, x)
        conditions = {"seed": seed, "n_draws": n_draws, "n_repeats": n_repeats, "batch_size": batch_size}
        conditions |= {"norm": norm, "is_noisy": self.is_noisy, "kept": keep_images, "guided": guide_identity}
        device = images.images.device.type
        self.identity = identity | conditions | {"order": order.tolist(), "device": device, "protocol": PROTOCOL}
        self._done = {}

    def natural(self, attack):
        """Return the outcome on the clean images an attack starts from, with noise if the attack is evaluated with it.

        Parameters
        ----------
        attack : AttackSpec
            Attack that is compared with it.

        Returns
        -------
        Outcome
        """
        name = "natural" if attack.noise else "noise-off-natural"
        return self.run(parse(name, is_noisy=self.is_noisy, norm=self.norm, n_images=len(self.order)))

    def run(self, attack):
        """Run or resume an attack, or return its outcome if there is one.

        Parameters
        ----------
        attack : AttackSpec
            Attack on at most as many images as `order` has.

        Returns
        -------
        Outcome

        Raises
        ------
        ArithmeticError
            If images leave the ball or the cube, or the logits are not finite (raised by a helper).
        """
        is_natural = attack.base == "natural"
        key = self._key(attack, None if is_natural else self._key(self.natural(attack).attack, None))
        if key not in self._done:
            self._done[key] = self._run(attack, key, is_natural)
        return self._done[key]

    def _key(self, attack, reference):
        depends = {"settings": attack.settings(), "identity": self.identity, "natural": reference}
        if attack.source == "oracle":
            depends["oracle"] = self.oracle_identity
        return hashlib.sha256(json.dumps(depends, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]

    def _run(self, attack, key, is_natural):
        n, noisy = attack.n_images, self.is_noisy and attack.noise
        n_repeats, n_draws = (self.n_repeats, self.n_draws) if noisy else (1, 1)
        everywhere = is_natural or attack.everywhere
        chosen = torch.ones(n, dtype=torch.bool) if everywhere else self.natural(attack).right[:n].any(1)
        size = self.batch_size
        if attack.eot == "logits":
            size = max(1, size * GRAPHS // max(GRAPHS, attack.n_eot))
        # An empty tensor splits into one empty batch, which is dropped.
        batches = list(filter(len, chosen.nonzero().flatten().split(size)))
        state, record = self._read(attack, key) or self._blank(attack, key, n, n_repeats, n_draws)
        began = written = time.monotonic()
        bar = tqdm(
            total=sum(map(len, batches)),
            initial=sum(len(batch) for batch in batches[: record["n_batches"]]),
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
                    right, draws, n_differing = predictions(
                        self.model, x_adv, y, n_repeats=n_repeats, n_draws=n_draws, generator=generator
                    )
                state["right"][batch], state["draws"][batch] = right.cpu(), draws.cpu()
                state["distance"][batch] = self.ball.distance(single(x_adv), single(x)).float().cpu()
                if "x_adv" in state:
                    state["x_adv"][batch] = x_adv.cpu().to(state["x_adv"].dtype)
                now = time.monotonic()
                record["seconds"], began = record["seconds"] + now - began, now
                record["n_batches"], record["n_differing"] = number + 1, record.get("n_differing", 0) + n_differing
                if now - written >= SECONDS or number + 1 == len(batches):
                    self._write(attack, key, state, record)
                    written = now
                bar.update(len(batch))
        counts = {name: record.get(name, 0) for name in ("seconds", "n_passes", "n_gradients", "n_differing")}
        return Outcome(attack, attacked=chosen, **state, **counts)

    def _blank(self, attack, key, n, n_repeats, n_draws):
        state = {
            "right": torch.zeros(n, n_repeats, dtype=torch.bool),
            "draws": torch.zeros(n, n_repeats, n_draws, dtype=torch.bool),
            "distance": torch.zeros(n, dtype=torch.float32),
        }
        if self.keep_images and attack.base != "natural":
            # Images that are not attacked stay as they are.
            state["x_adv"] = self.images.take(self.order[:n])[0].cpu().clone()
        settings = {"key": key, "attack": attack.settings()}
        return state, settings | {"n_batches": 0, "seconds": 0.0, "n_passes": 0, "n_gradients": 0}

    def _path(self, attack, key):
        return self.directory / f"{attack.source}-{attack.base}-{key}.safetensors"

    def _write(self, attack, key, state, record):
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            checkpoint.write(self._path(attack, key), "evaluation", state, record)

    def _read(self, attack, key):
        if self.directory is None or not self._path(attack, key).is_file():
            return None
        try:
            state, record = checkpoint.read(self._path(attack, key), "evaluation")
        except ValueError as error:
            sys.stderr.write(f"{error}: recomputing it\n")
            return None
        return (state, record) if record.get("key") == key else None

    def _generator(self, key, purpose, number, x):
        return seeds.make_generator(self.seed, f"{key} {purpose}", number, device=x.device)

    def _attack(self, attack, x, y, generator):
        model = self.oracle if attack.source == "oracle" else self.model
        if model is self.model and self.guide is not None and attack.uses_gradients:
            model = self.guide
        off = noise_off(model) if attack.source == "noise-off" else contextlib.nullcontext()
        # Single-draw attacks are reported as such; no warning needed.
        with off, admitted():
            x_adv = attack(model, x, y, generator=generator)
        far = self.ball.distance(single(x_adv), single(x)).max().item()
        # The released attack does not clip.
        outside = attack.base != "cw-as-released" and not (x_adv.min() >= 0 and x_adv.max() <= 1)
        # Half a unit in the last place of 1 per pixel, in the norm of the attack.
        pixels = x[0].numel() ** 0.5 if self.norm == "l2" else 1.0
        rounding = pixels * torch.finfo(x.dtype).eps / 2 if x.dtype.itemsize < 4 else 0.0
        limit = attack.eps + max(rounding, ROUNDING * max(1.0, attack.eps))
        if outside or (attack.is_bounded and attack.base != "unbounded" and not far <= limit):
            raise ArithmeticError(f"{attack.name} moved by {far:g} with eps={attack.eps:g}, or left the cube of images")
        return x_adv

    @contextlib.contextmanager
    def _counting(self, record):
        """Count the images that pass through the networks."""

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
