"""Evaluate a trained network: natural images, the paper's attacks, and those that average over the noise.

    python -m nets.evaluate RUN                             by the preset of the device: "cpu", or "full" on a GPU
    python -m nets.evaluate RUN --quick                     20 images, seconds
    python -m nets.evaluate RUN --attacks natural fgsm ifgsm20 apgd-ce-eot20@200
    python -m nets.evaluate RUN --also apgd-ce-eot20        that one on all 1000 images, where the preset takes 200
    python -m nets.evaluate RUN --oracle RUN2               blind attacks as well, of images made on another run
    python -m nets.evaluate --list                          names of the attacks, and what the presets run

The images are the first of the test set in a random order in which the classes take turns, the same for all runs. What
is done is kept in RUN/evaluation, and a second call goes on from there. An image is robust if it is right before and
after the attack. A model that draws is asked `repeats` times, each the mean over `draws` passes.

The preset "cpu" is made for two cores: with averaging over 20 draws it attacks 100 or 200 images, by 20 steps of APGD,
and every row of the table says its n. Of a network that draws it asks for some 300 000 gradients and 230 000 further
passes, where 60 % of 1000 images are answered right; of one that does not, for some 110 000 and 60 000.
"""

import contextlib
import signal
import sys
from pathlib import Path

from nets import _cli
from nets.evaluation import PRESETS, Options, attack_names, attacks_of, evaluate, markdown

__all__ = ["main"]

PROG = "python -m nets.evaluate"
REPORT = "evaluation.json"


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; by default those of the process.
    """
    argv = sys.argv[1:] if argv is None else argv
    with contextlib.suppress(ValueError):
        # Not in the main thread: whoever called has handlers of its own.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    _cli.run(
        lambda: _print_list() if "--list" in argv else _run(argv),
        PROG,
        options=(Options,),
        interrupted="interrupted: the same command goes on from the last batch",
    )


def _run(argv):
    run, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    options = _cli.parse(Options, f"{PROG} {run or 'RUN'}", __doc__, rest)
    if run is None:
        raise ValueError("the directory of a run must come first: python -m nets.evaluate RUN")
    run = Path(run)
    out = options.out or run / REPORT
    report = evaluate(run, options)
    _cli.write_json(out, report)
    print(markdown(report), end="")
    print(f"\n{report['run']['name']}, seed {report['run']['seed']}, {report['data']['name']}: {out}")


def _print_list():
    for name, preset in PRESETS.items():
        options = {"n_images": preset.n_images, "n_iter": preset.n_iter, "n_queries": preset.n_queries}
        for kind, names in (("draws nothing", preset.plain), ("draws noise", preset.noisy)):
            print(f"{name}, of a model that {kind}: {preset.n_images} images")
            for attack in attacks_of(
                (*names, *preset.blind), is_noisy=kind == "draws noise", has_oracle=True, **options
            ):
                told = {key: value for key, value in attack.settings().items() if key.startswith("n_")}
                print(f"  {attack.name:28s} {', '.join(f'{key}={value}' for key, value in told.items())}")
    print(f"other names:\n{attack_names()}")


if __name__ == "__main__":
    main()
