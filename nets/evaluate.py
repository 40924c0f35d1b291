"""Evaluate a classifier: on natural images, under the paper's attacks, attacks averaged over noise, and AutoAttack.

    python -m nets.evaluate RUN                             the preset of the device: "cpu", or "full" on a GPU
    python -m nets.evaluate RUN --quick                     20 images, seconds
    python -m nets.evaluate RUN --attacks natural fgsm ifgsm20 apgd-ce-eot20@200
    python -m nets.evaluate RUN --also apgd-ce-eot20        this attack on 1000 images, where the preset uses 200
    python -m nets.evaluate RUN --oracle RUN2               also blind attacks, with images made on another run
    python -m nets.evaluate RUN --inject blocks             control: En1's noise in a network trained without it
    python -m nets.evaluate MODULE:CALLABLE --data PATH     any model, or function that returns a model
    python -m nets.evaluate zoo:NAME --data cifar10         a network that comes with the package
    python -m nets.evaluate --list                          names of the attacks, and the attacks of the presets

The images are the first of the test set in a random order in which the classes take turns, the same for all runs.
The results are written to the file --out, by default RUN/evaluation.json. What has been computed is kept in
RUN/evaluation, and a second call resumes from it; for a network of the zoo, RUN is runs/zoo/NAME. For MODULE:CALLABLE
it is a directory, which takes evaluation.json and what has been computed; without --out, nothing is kept.

An image is robust if it is right before and after the attack. The predictions of a noisy model are means over `draws`
passes, repeated `repeats` times.

The preset "cpu" is made for two cores: attacks averaged over 20 draws use 100 or 200 images, APGD takes 20 steps, and
every row of the table states its n. If 60 % of 1000 images are right, it computes about 300 000 gradients and 230 000
further passes for a noisy network, and about 110 000 and 60 000 for a deterministic one.
"""

import contextlib
import sys
from pathlib import Path

from nets import _cli, zoo
from nets.evaluation import (
    PRESETS,
    Options,
    attack_names,
    attacks_of,
    directory_of,
    evaluate,
    evaluate_target,
    markdown,
)

__all__ = ["main"]

PROG = "python -m nets.evaluate"
REPORT = "evaluation.json"


def main(argv=None):
    """Run the command with a list of arguments, by default those of the process."""
    argv = sys.argv[1:] if argv is None else argv
    _cli.on_sigterm()
    _cli.run(
        lambda: _print_list() if "--list" in argv else _run(argv),
        PROG,
        options=(Options,),
        interrupted="interrupted: the same command resumes after the last batch",
    )


def _run(argv):
    run, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    options = _cli.parse(Options, f"{PROG} {run or 'RUN'}", __doc__, rest)
    if run is None:
        raise ValueError("the directory of a run must come first: python -m nets.evaluate RUN")
    if ":" in run and not zoo.of_the_zoo(run) and not Path(run).exists():
        with _interruption_explained(options):
            report = evaluate_target(run, options)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            report.to_json(options.out / REPORT)
        print(report)
        return
    out = options.out or directory_of(run) / (
        REPORT if options.inject is None else f"evaluation-{options.inject}-noise.json"
    )
    report = evaluate(run, options)
    _cli.write_json(out, report)
    print(markdown(report), end="")
    print(f"\n{report['run']['name']}, seed {report['run']['seed']}, {report['data']['name']}: {out}")


@contextlib.contextmanager
def _interruption_explained(options):
    """After Ctrl-C, report that nothing is kept if no directory was given."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if options.out is None:
            stop.args = ("interrupted: nothing is kept without --out DIRECTORY",)
        raise


def _print_list():
    for name, preset in PRESETS.items():
        options = {"n_images": preset.n_images, "n_iter": preset.n_iter, "n_queries": preset.n_queries}
        for kind, names in (("is deterministic", preset.plain), ("draws noise", preset.noisy)):
            print(f"{name}, for a model that {kind}: {preset.n_images} images")
            for attack in attacks_of(
                (*names, *preset.blind), is_noisy=kind == "draws noise", has_oracle=True, **options
            ):
                sizes = {key: value for key, value in attack.settings().items() if key.startswith("n_")}
                print(f"  {attack.name:28s} {', '.join(f'{key}={value}' for key, value in sizes.items())}")
    print(f"other names:\n{attack_names()}")


if __name__ == "__main__":
    main()
