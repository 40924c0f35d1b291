"""A model in evaluation mode, with frozen parameters, during an attack, and restored afterwards."""

import contextlib
import contextvars

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from bridge import checks, noise_from
from nets import seeds
from nets.attacks._folding import folded
from nets.attacks._forward import is_compiled
from nets.attacks._layout import channels_last
from nets.attacks._reached import hidden_networks

BATCH_NORMS = ("running", "batch")
# Makes the model's noise independent of the random starts from the same seed.
APART = 0x5DEECE66D
# Generators, by id, and seeds from which the default generators draw already.
_GOVERNING = contextvars.ContextVar("governing", default=frozenset())


@contextlib.contextmanager
def attacked(model, *, generator=None, batch_norm="running", fold=True):
    """Freeze a model within a `with` block in which it is attacked, and restore it afterwards.

    A model in training mode is switched to evaluation mode. In a model in evaluation mode, every submodule keeps its
    mode: a Dropout in training mode draws, and a batch normalisation in training mode normalises by the batch, but does
    not update its statistics. Parameters require no gradient. Modes, gradients and buffers are restored at the end.

    Networks that are no submodules, but that a function calls or an attribute holds, keep their modes and parameters
    as well. What a pass changes of their modes and buffers is restored, where they are reached through closures,
    globals, defaults, bound methods, `functools.partial`, attributes or containers.

    Parameters
    ----------
    model : Module or callable
        Model to be attacked. For a callable that is not a Module, only the noise and the buffers are controlled.
    generator : torch.Generator, optional
        Generator of the model's noise: directly for the blocks of this project, and for all others by a seed for
        the default generators of PyTorch, NumPy and Python, whose state is restored. By default PyTorch's own.
    batch_norm : {"running", "batch"}
        Whether to normalise by the running statistics, or by those of the batch, as the released code does in training.
        The running statistics are not updated in either case.
    fold : bool or "small", default=True
        Whether to fold normalisations into their neighbours and to compute convolutions in channels-last order where
        the model allows it: faster, and equal up to rounding. "small", for few passes: to fold alone, and only
        sequences of small convolutions. Where a forward pass changes weights, the model's own operations are called;
        on a GPU, however, values written through `.data` are not seen:
        write under `torch.no_grad()` instead.

    Yields
    ------
    Module or callable
        The model.

    Raises
    ------
    ValueError
        If batch_norm is unknown, the generator none of PyTorch's, or a layer lazy and without weights (raised by a
        helper).
    """
    checks.one_of("batch_norm", batch_norm, BATCH_NORMS)
    checks.generator(generator)
    with contextlib.ExitStack() as stack:
        if generator is not None:
            stack.enter_context(_seeded(generator))
        stack.enter_context(kept([part for network in hidden_networks(model) for part in network.modules()]))
        if isinstance(model, nn.Module):
            stack.enter_context(_still(model, batch_norm))
            if generator is not None:
                stack.enter_context(noise_from(model, generator))
            if fold and batch_norm == "running" and not any(map(_is_whole, model.modules())):
                stack.enter_context(folded(model, small_only=fold == "small"))
                if fold != "small":
                    stack.enter_context(channels_last(model))
        yield model


def check_initialised(model):
    """Refuse a module with lazy layers, whose weights its first pass makes."""
    lazy = [name.rpartition(".")[0] or "the model" for name, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        shown = ", ".join(dict.fromkeys(lazy))
        raise ValueError(f"model has lazy layers without weights ({shown}): call the model once on an image before")


def _is_whole(module):
    """Whether the submodules cannot be replaced: compiled, scripted, or a `DataParallel`, which makes copies."""
    return is_compiled(module) or isinstance(module, (nn.DataParallel, torch.jit.ScriptModule))


@contextlib.contextmanager
def _still(model, batch_norm):
    check_initialised(model)
    # Parameters of inference mode cannot be changed, and a pass that needs their gradient is an error of PyTorch's.
    modules, parameters = list(model.modules()), [p for p in model.parameters() if not p.is_inference()]
    modes = [is_training(module) for module in modules]
    needs = [parameter.requires_grad for parameter in parameters]
    try:
        if is_training(model):
            to_evaluation(model)
        with kept(modules, batch_norm=batch_norm):
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
    finally:
        for parameter, needed in zip(parameters, needs, strict=True):
            parameter.requires_grad_(needed)
        _set_modes(modules, modes)


def is_training(module):
    """Whether a module is in training mode; those of `torch.jit.freeze` have no modes, and are not."""
    return getattr(module, "training", False)


def to_evaluation(model):
    """Switch a module to evaluation mode; exported programs have one mode only, and stay in it."""
    with contextlib.suppress(NotImplementedError):
        model.eval()


def _set_modes(modules, modes):
    for module, mode in zip(modules, modes, strict=True):
        if is_training(module) != mode:
            module.training = mode


@contextlib.contextmanager
def kept(modules, *, batch_norm="running"):
    """Restore buffers and modes; normalisations in training mode, or all for "batch", use the batch's statistics.

    The buffers of normalisations in evaluation mode, too: a forward pass may set their mode.
    """
    modes = [is_training(module) for module in modules]
    saved, norms, before = [], [], []
    try:
        places = [module._buffers for module in modules]
        saved = [(p, name, b, b.clone()) for p in places for name, b in p.items() if _is_kept(b)]
        norms = [m for m in modules if isinstance(m, _BatchNorm) and (m.training or batch_norm == "batch")]
        before = [(norm.training, norm.track_running_stats) for norm in norms]
        for norm in norms:
            # Training mode without tracked statistics: those of the batch are used, and nothing is updated.
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, (mode, track) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = mode, track
        _set_modes(modules, modes)
        for place, name, buffer, _ in saved:
            if isinstance(place, dict):
                place[name] = buffer
        with torch.no_grad():
            for buffer, value in _changed([(buffer, value) for _, _, buffer, value in saved]):
                buffer.copy_(value)


def _changed(pairs):
    """The pairs of a buffer and its former value that differ; one look at all those on a GPU, which has to wait."""
    there = [pair for pair in pairs if pair[0].is_cuda]
    changed = [pair for pair in pairs if not pair[0].is_cuda and not torch.equal(*pair)]
    if not there or torch.cuda.is_current_stream_capturing():
        return changed + there
    flags = torch.stack([(buffer != value).any().to(there[0][0].device) for buffer, value in there]).tolist()
    return changed + [pair for pair, flag in zip(there, flags, strict=True) if flag]


def _is_kept(buffer):
    return buffer is not None and not is_lazy(buffer) and buffer.layout == torch.strided


@contextlib.contextmanager
def _seeded(generator):
    """Seed the default generators of PyTorch, NumPy and Python from this one, and restore their state afterwards."""
    defaults = [torch.default_generator]
    if torch.cuda.is_initialized():
        defaults += torch.cuda.default_generators
    if any(generator is default for default in defaults):
        yield
        return
    before = [default.get_state() for default in defaults]
    # Read from a copy: a deterministic model must not change the numbers that the attack draws.
    twin = torch.Generator(generator.device).set_state(generator.get_state())
    seed = torch.randint(2**62, (), generator=twin, device=twin.device).item() ^ APART
    outer = _GOVERNING.get()
    if (id(generator), seed) in outer:
        # An attack within an evaluation: from the same seed, the draws that guide it would be those that decide.
        yield
        return
    token = _GOVERNING.set(outer | {(id(generator), seed)})
    with seeds.numpy_and_python_seeded(seed) as drew:
        try:
            for default in defaults:
                default.manual_seed(seed)
            seeded = [default.get_state() for default in defaults]
            yield
        finally:
            if drew() or any(not torch.equal(d.get_state(), s) for d, s in zip(defaults, seeded, strict=True)):
                # The model drew: the next call with this generator gets other noise.
                torch.randint(2, (), generator=generator, device=generator.device)
            for default, state in zip(defaults, before, strict=True):
                default.set_state(state)
            _GOVERNING.reset(token)
