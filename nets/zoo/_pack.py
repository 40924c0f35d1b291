"""Write the file and the card of a run into the zoo, or the accuracies of an evaluation into a card.

    python -m nets.zoo._pack RUN cifar10/resnet20-seed0 --differs "..." --commit 1234567
    python -m nets.zoo._pack --cards results            cards of all evaluated networks, from results/cifar10-*.json
    python -m nets.zoo._pack --sample PATH              the sample of test images

Kernels of convolutions and matrices are stored in half precision, vectors in float32.
"""

import csv
from pathlib import Path

import torch

import _enresnet
from nets import checkpoint, data, provenance
from nets.zoo import HERE, SAMPLE, SAMPLE_SIDE

PROG = "python -m nets.zoo._pack"
LICENCES = {
    "weights": "MIT, as the code",
    "images": "CIFAR-10 (Krizhevsky 2009) names no licence; its authors ask to be cited",
}
COLUMNS = ("epoch", "lr", "loss", "accuracy", "validation", "validation_adversarial", "average", "average_adversarial")
SCORES = ("name", "accuracy", "stderr", "n", "n_repeats", "n_draws")


def pack(run, name, *, differs=(), commit=None):
    """Write the file and the card of a run; `differs` are sentences on deviations that its command does not show."""
    tensors, record = checkpoint.read(Path(run) / "best.safetensors", "model")
    config = _enresnet.read_record(Path(run) / "config.json")
    if "data" in record["recipe"]:
        # By name: a directory belongs to the machine of the training.
        record["recipe"]["data"] = Path(record["recipe"]["data"]).name
    half = {key: tensor.half() if tensor.ndim > 1 else tensor for key, tensor in tensors.items()}
    lost = [key for key, tensor in half.items() if not tensor.isfinite().all()]
    if lost:
        raise ValueError(f"{', '.join(lost)} do not fit half precision")
    file = HERE / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    checkpoint.write(file, "model", half, record)
    model, _ = checkpoint.load_model(file)
    card = {
        "name": name,
        "title": f"{record['name']}, seed {record['seed']}, after {record['epoch']} epochs",
        **{key: record[key] for key in ("recipe", "seed", "model", "data", "epoch")},
        "weights": {
            "kept": record["recipe"]["keep"],
            "digest": checkpoint.digest(model.state_dict()),
            "stored": "kernels and matrices in float16, vectors in float32",
            "n_parameters": sum(weight.numel() for weight in model.parameters()),
        },
        "differs": list(differs),
        "licences": LICENCES,
        "history": _history(Path(run) / "metrics.csv"),
        "accuracies": [],
        "red_flags": None,
        **{key: config[key] for key in ("versions", "device", "precision", "command")},
        "commit": commit,
        "began": config["began"],
    }
    _enresnet.write_record(file.with_suffix(".json"), card, indent=1)
    return card


def _history(path):
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: int(row[key]) if key == "epoch" else round(float(row[key]), 5) for key in COLUMNS if row.get(key)}
        for row in rows
    ]


def add_accuracies(report, name, *, source):
    """Write the accuracies and red flags of an evaluation's report into a card; `source` is the report's file name."""
    file = HERE / f"{name}.json"
    card = _enresnet.read_record(file)
    rows = [{key: row[key] for key in SCORES if row.get(key) is not None} for row in report["rows"]]
    card["accuracies"] = rows
    card["evaluation"] = {
        "report": source,
        "images": report["data"]["subset"],
        "encoding": report["data"]["encoding"],
        "weights": "those of this file"
        if report["run"]["weights"]["digest"] == card["weights"]["digest"]
        else "the run's, before they were stored in half precision",
    }
    flags = report.get("red_flags") or {}
    card["red_flags"] = flags.get("found")
    _enresnet.write_record(file, card, indent=1)


def pack_sample(source):
    """Write the sheet of 100 test images, one row per class, and a record of them."""
    import numpy as np
    from PIL import Image

    images = data.load(source)
    chosen = data.balanced_order(images.test_labels, 0)[:100]
    chosen = chosen[torch.sort(images.test_labels[chosen], stable=True).indices]
    tiles = images.test_images[chosen].reshape(10, 10, 3, SAMPLE_SIDE, SAMPLE_SIDE)
    sheet = tiles.permute(0, 3, 1, 4, 2).reshape(10 * SAMPLE_SIDE, 10 * SAMPLE_SIDE, 3)
    Image.fromarray(np.ascontiguousarray(sheet.numpy())).save(SAMPLE, optimize=True)
    about = {
        "what": "100 test images of CIFAR-10, one class per row, as decoded from JPEG of quality 75",
        "encoding": images.encoding,
        "classes": list(images.classes),
        "indices": chosen.tolist(),
        "data": images.provenance(),
        "licence": LICENCES["images"],
    }
    _enresnet.write_record(SAMPLE.with_suffix(".json"), about, indent=1)


def main(argv=None):
    """Run the command."""
    parser = _enresnet.OneLineParser(PROG, __doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--differs", action="append", default=[])
    parser.add_argument("--commit", default=provenance.commit())
    parser.add_argument("--cards", type=Path)
    parser.add_argument("--sample")
    options = parser.parse_args(argv)
    if options.run and not options.name:
        parser.error(f"NAME must follow RUN, the name in the zoo, got {options.run} alone")
    _enresnet.run(lambda: _run(options), PROG)


def _run(options):
    if options.sample:
        pack_sample(options.sample)
    if options.cards:
        for report in sorted(options.cards.glob("cifar10-*-seed*.json")):
            name = report.stem.replace("-", "/", 1)
            if (HERE / f"{name}.json").is_file():
                add_accuracies(_enresnet.read_record(report), name, source=report.name)
    if options.run:
        pack(options.run, options.name, differs=options.differs, commit=options.commit)


if __name__ == "__main__":
    main()
