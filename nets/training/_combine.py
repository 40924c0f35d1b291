"""Separately trained models combined into one: the mean of their logits (paper: section 4.2)."""

from dataclasses import replace

import torch

from nets.checkpoint import load_model
from nets.training._distributed import World
from nets.training._run_directory import Run, configuration

__all__ = ["integrate"]


def integrate(name, recipe, runs, out):
    """Combine finished runs into a new run, which can be evaluated like any other.

    f(x) = (1 / K) sum_k f_k(x)

    Parameters
    ----------
    name : str
        Name of the recipe, for the record.
    recipe : Recipe
        Recipe whose model is the sum of the models of the runs, in the same order.
    runs : sequence of Path
        Directories of the finished runs.
    out : Path
        Directory of the new run.

    Returns
    -------
    ImageClassifier
        The model, as saved.

    Raises
    ------
    ValueError
        If a run does not exist, or the models are not the terms of the recipe, or were trained on different data.
    """
    terms = recipe.model.split("+")
    if len(runs) != len(terms):
        raise ValueError(f"{recipe.model} is the mean of {len(terms)} runs, got {len(runs)}")
    loaded = [load_model(run) for run in runs]
    records = [record for _, record in loaded]
    n_classes, mean, std = (records[0]["model"][key] for key in ("n_classes", "mean", "std"))
    arguments = recipe.model_arguments(n_classes, mean, std)
    for term, run, record in zip(terms, runs, records, strict=True):
        trained = record["model"]
        if trained["name"] != term:
            raise ValueError(f"{run} must contain {term}, for {recipe.model}, and contains {trained['name']}")
        if record["data"]["digest"] != records[0]["data"]["digest"]:
            raise ValueError(f"{run} was trained on other data than {runs[0]}")
        for key in ("coef", "noise", "std_over"):
            if term.startswith("en") and trained[key] != arguments[key]:
                raise ValueError(f"{run} was trained with {key}={trained[key]}, the recipe has {key}={arguments[key]}")
    # The data on which the members were trained.
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
