"""Whether results in a directory are those of this model: what its code and weights do not show, its logits may."""

import hashlib

import torch

from nets import checkpoint, seeds
from nets.attacks import attacked, draws_differ, mean_logits

# Change of an image's logits, relative to their spread, that is none of rounding; in half precision, eight times its.
CHANGE, N_ROUNDING = 1e-3, 8
# Share of images at which rounding may flip a threshold within the model.
SHARE = 0.1
# Standard deviation of what is added to images, to see what a model does beside them.
SPREAD = 0.1


def passes_of(model, x, *, further):
    """Return the logits on images, and whether a pass from the same seed gives them again; None if it does not.

    `further` is whether the logits on images with noise follow those on the images.
    """
    first, again = (_logits(model, x, further) for _ in range(2))
    is_seeded = not draws_differ(first, again)
    return first if is_seeded else None, is_seeded


def _logits(model, x, further):
    generator = seeds.make_generator(0, "beside the images")
    noise = SPREAD * torch.randn(x.shape, generator=generator).to(x)
    with attacked(model, generator=seeds.make_generator(0, "identity", device=x.device)):
        batches = (x, (x + noise).clamp(0, 1)) if further else (x,)
        return torch.cat([mean_logits(model, batch) for batch in batches])


def check_kept(out, identity, logits, dtype):
    """Compare logits, unless they are None, with those that a directory holds of this identity, or keep them there."""
    if logits is None:
        return
    path = out / f"logits-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.safetensors"
    try:
        before = checkpoint.read(path, "logits")[0]["logits"].to(logits)
    except ValueError:
        # Missing or damaged.
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.write(path, "logits", {"logits": logits}, {"identity": identity})
        return
    tolerance = max(CHANGE, N_ROUNDING * torch.finfo(dtype).eps)
    if before.shape == logits.shape:
        spread = (before - before.mean(1, keepdim=True)).norm(dim=1)
        changed = (logits - before).norm(dim=1) > tolerance * spread + 1e-6 * before.norm(dim=1)
        if changed.double().mean() <= SHARE:
            return
    raise ValueError(
        f"out must be another directory: {out} holds results of a model with the same code and weights, but other "
        "logits, which a file or the environment may have changed"
    )
