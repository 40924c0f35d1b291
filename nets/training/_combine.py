"""Separately trained models as one: the mean of their logits (paper: section 4.2)."""

from dataclasses import replace

import torch

from nets.checkpoint import load_model
from nets.training._distributed import World
from nets.training._run_directory import Run, configuration

__all__ = ["integrate"]


def integrate(name, recipe, runs, out):
    """Put finished runs together, into a run that can be evaluated like any other.

    f(x) = (1 / K) sum_k f_k(x)

    Parameters
    ----------
    name : str
        Name of the recipe, for the record.
    recipe : Recipe
        Its model is the sum of theirs, in their order.
    runs : sequence of Path
        Directories of the runs.
    out : Path
        Directory of the new run.

    Returns
    -------
    ImageClassifier
        The model, as saved.

    Raises
    ------
    ValueError
        If a run is not there, or the models are not the recipe's terms, or were trained on different data.
    """
    terms = recipe.model.split("+")
    if len(runs) != len(terms):
        raise ValueError(f"{recipe.model} is put together from {len(terms)} runs, got {len(runs)}")
    loaded = [load_model(run) for run in runs]
    records = [record for _, record in loaded]
    n_classes, mean, std = (records[0]["model"][key] for key in ("n_classes", "mean", "std"))
    arguments = recipe.model_arguments(n_classes, mean, std)
    for term, run, record in zip(terms, runs, records, strict=True):
        theirs = record["model"]
        if theirs["name"] != term:
            raise ValueError(f"{run} must hold {term}, for {recipe.model}, and holds {theirs['name']}")
        if record["data"]["digest"] != records[0]["data"]["digest"]:
            raise ValueError(f"{run} was trained on other data than {runs[0]}")
        for key in ("coef", "noise", "std_over"):
            if term.startswith("en") and theirs[key] != arguments[key]:
                raise ValueError(f"{run} was trained with {key}={theirs[key]}, the recipe has {key}={arguments[key]}")
    # The images that the members were trained on.
    recipe = replace(recipe, data=records[0]["recipe"]["data"])
    model = recipe.build(n_classes, mean, std, 0)
    for member, (part, _) in zip(model.net.members, loaded, strict=True):
        member.load_state_dict(part.net.state_dict())
    world = World(torch.device("cpu"))
    seeds = [record["seed"] for record in records]
    config = configuration(name, recipe, seeds, arguments, records[0]["data"], world)
    config["members"] = [
        {"run": str(run), "name": record["name"], "seed": record["seed"]}
        for run, record in zip(runs, records, strict=True)
    ]
    with Run(out, config, recipe) as run:
        run.save_best(model, {"epoch": 0, "selected": None})
    return model.eval()
