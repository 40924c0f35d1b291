"""Evaluation of a model that a command names: MODULE:CALLABLE, or zoo:NAME."""

import importlib
import inspect
import sys
from pathlib import Path

import torch
from torch import nn

from bridge import checks
from nets import data
from nets.attacks import EPS
from nets.data import balanced_order
from nets.evaluation._controls import inject
from nets.evaluation._presets import PRESETS
from nets.evaluation._protocol import assess
from nets.evaluation._setup import EPS_L2, exact, given
from nets.provenance import load_run
from nets.training import device_of
from nets.zoo import load


def evaluate_target(target, options):
    """Evaluate what the command names by "MODULE:CALLABLE" or "zoo:NAME".

    Parameters
    ----------
    target : str
        Name.
    options : Options
        Those of the command.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is no such model, no data, or an option is out of range.
    """
    if options.data is None:
        raise ValueError("data must be given for a model that is not a run: --data PATH")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"out must be a directory for a model that is not a run, got the file {options.out}")
    device = device_of(options.device)
    zoo = target.startswith("zoo:")
    model = load(target.removeprefix("zoo:"), device=device) if zoo else find_model(target, device)
    if options.inject is not None:
        inject(model, options.inject, options.coef)
    oracle = None if options.oracle is None else load_run(options.oracle, device)[0]
    name = "quick" if options.quick else options.preset
    preset_name = ("full" if device.type == "cuda" else "cpu") if name == "auto" else name
    preset = PRESETS[checks.one_of("preset", preset_name, tuple(PRESETS))]
    if options.n_threads is not None:
        torch.set_num_threads(checks.integer("n_threads", options.n_threads, at_least=1))
    n_images = checks.integer("n_images", given(options.n_images, preset.n_images), at_least=1)
    checks.one_of("norm", options.norm, ("linf", "l2"))
    dataset = data.load(options.data)
    order = balanced_order(dataset.test_labels, options.subset_seed)[:n_images]
    images, labels = data.Batches(dataset.test_images, dataset.test_labels, dataset.white).take(order)
    with exact(device):
        return assess(
            model,
            images.to(device),
            labels.to(device),
            eps=given(options.eps, EPS if options.norm == "linf" else EPS_L2),
            norm=options.norm,
            attacks=options.attacks or None,
            also=options.also,
            step_size=options.step_size,
            n_draws=checks.integer("draws", options.draws, at_least=1),
            n_repeats=checks.integer("repeats", given(options.repeats, preset.n_repeats), at_least=1),
            surrogate=oracle,
            guided=False,
            out=options.out,
            n_iter=given(options.n_iter, preset.n_iter),
            n_queries=given(options.n_queries, preset.n_queries),
            batch_size=options.batch_size,
            seed=options.seed,
            keep_images=False,
            progress=True,
            version=options.version,
        )


def find_model(target, device):
    """Return the model of "MODULE:CALLABLE" on a device: a Module, a function of images, or what makes one of them.

    A class, and a function without parameters, is called to make the model. MODULE is imported with the working
    directory on the path.
    """
    module_name, _, name = target.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        model = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{module_name} cannot be imported: {error}") from None
    except Exception as error:
        # Whatever runs at its import is the user's.
        raise ValueError(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(model, part):
            raise ValueError(f"{module_name} has no {name}")
        model = getattr(model, part)
    if isinstance(model, type) or (inspect.isfunction(model) and not inspect.signature(model).parameters):
        try:
            model = model()
        except Exception as error:
            raise ValueError(f"{target} cannot be made: {type(error).__name__}: {error}") from error
    return model.to(device) if isinstance(model, nn.Module) else model
