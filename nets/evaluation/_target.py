"""Evaluation of a model that is named on the command line as MODULE:CALLABLE."""

import importlib
import inspect
import sys
from pathlib import Path

from torch import nn

from nets import data
from nets.attacks import EPS
from nets.data import balanced_order
from nets.evaluation._controls import control_of, inject
from nets.evaluation._protocol import Settings, assess
from nets.evaluation._radius import EPS_L2, radius
from nets.evaluation._setup import counts, exact, given, load_network, preset_of, set_threads
from nets.training import device_of


def evaluate_target(target, options):
    """Evaluate the model that the command names by "MODULE:CALLABLE".

    Parameters
    ----------
    target : str
        Name of the model.
    options : Options
        Options of the command.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the model or the data do not exist, or an option is out of range.
    """
    if options.data is None:
        raise ValueError("data must be given for a model that is not a run: --data PATH")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"out must be a directory for a model that is not a run, got the file {options.out}")
    device, control = device_of(options.device), control_of(options)
    model = find_model(target, device)
    if control:
        inject(model, control["inject"], control["coef"])
    oracle = None if options.oracle is None else load_network(options.oracle, device).model
    _, preset = preset_of(options, device)
    set_threads(options.n_threads)
    n_images, numbers = counts(options, preset)
    settings = Settings(
        eps=radius(given(options.eps, EPS if options.norm == "linf" else EPS_L2), options.norm),
        norm=options.norm,
        attacks=options.attacks or None,
        also=options.also,
        step_size=options.step_size,
        **numbers,
        out=options.out,
        n_iter=given(options.n_iter, preset.n_iter),
        n_queries=given(options.n_queries, preset.n_queries),
        batch_size=options.batch_size,
        version=options.version,
    )
    dataset = data.load(options.data)
    order = balanced_order(dataset.test_labels, options.subset_seed)[:n_images]
    images, labels = data.Batches(dataset.test_images, dataset.test_labels, dataset.white).take(order)
    with exact(device):
        return assess(model, images.to(device), labels.to(device), settings, surrogate=oracle, guided=False)


def find_model(target, device):
    """Return the model of "MODULE:CALLABLE" on a device: a Module, or a function of images.

    A class or a function without parameters is called and returns the model. MODULE is imported with the working
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
        # The import runs code of the user, which may raise anything.
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
