"""Reports of evaluations, as JSON and as a table in Markdown."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import _enresnet
from nets.published import MASK
from nets.red_flags import NOTHING


def gradient_mask(rows, record):
    """Look for masked gradients as in the paper's section 4.4: accuracies that should vanish, and whether they do.

    "ifgsm20" is the accuracy of a naturally trained network under IFGSM^20, "paper" the paper's; "unbounded" is the
    accuracy under an attack in the whole cube; "nothing" is the threshold below which an accuracy counts as zero.
    """
    accuracy = {row["name"]: row["accuracy"] for row in rows}
    natural = record["recipe"]["method"] == "natural"
    printed = {row.model: row.ifgsm20 / 100 for row in MASK}
    return {
        "naturally_trained": natural,
        "ifgsm20": accuracy.get("ifgsm20") if natural else None,
        "paper": printed.get(record["recipe"]["model"]) if natural else None,
        "unbounded": accuracy.get("unbounded"),
        "nothing": NOTHING,
    }


def notes(mask, record, data, n_epochs, *, is_noisy):
    """List the caveats that go with the numbers of a run."""
    caveats, epochs = [], record["recipe"]["epochs"]
    if data["encoding"] == "JPEG":
        caveats.append("the images went through JPEG encoding")
    if data["digest"] != record["data"]["digest"]:
        caveats.append(f"the network was trained on other images, of {record['data']['name']}")
    if n_epochs is not None and n_epochs < epochs:
        caveats.append(f"the run is not finished: {n_epochs} of {epochs} epochs")
    if record["recipe"]["select_on"] == "test":
        caveats.append("the best epoch was chosen on the test images, which include these")
    if is_noisy and record["model"]["std_over"] == "batch":
        caveats.append("the noise is scaled over the batch: a prediction depends on the other images in its batch")
    if mask["ifgsm20"] is not None:
        verdict = "no sign of masked gradients" if mask["ifgsm20"] <= NOTHING else "its gradients may be masked"
        caveats.append(f"naturally trained, {mask['ifgsm20']:.4f} under IFGSM^20: {verdict} (paper: section 4.4)")
    if mask["unbounded"] is not None and mask["unbounded"] > NOTHING:
        caveats.append(f"accuracy {mask['unbounded']:.4f} under an unbounded attack: the gradients may be masked")
    return caveats


def markdown(report):
    """Return the table of a report, its red flags and its notes, in Markdown.

    Parameters
    ----------
    report : dict
        Report of `evaluate`.

    Returns
    -------
    str
    """
    has_paper = any(row.get("paper") is not None for row in report["rows"])
    heads = ["attack", "accuracy ± s.e.", "one draw", "draws per gradient", "n", "seconds"] + ["paper"] * has_paper
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in report["rows"]:
        n_eot = row.get("settings", {}).get("n_eot")
        cells = [
            row["name"],
            f"{row['accuracy']:.4f} ± {row['stderr']:.4f}",
            f"{row['one_draw']['accuracy']:.4f}" if "one_draw" in row else "",
            "" if n_eot is None else str(n_eot),
            str(row["n"]),
            f"{row['seconds']:.1f}" if "seconds" in row else "",
        ]
        if has_paper:
            cells.append("" if row.get("paper") is None else f"{row['paper']:.4f}")
        lines.append("| " + " | ".join(cells) + " |")
    flags = [f"- {flag['name']}: {flag['what']}; {flag['remedy']}" for flag in report["red_flags"]["found"]]
    n = report["red_flags"]["n_images"]
    lines += ["", f"Red flags ({n} images): none" if not flags else f"Red flags ({n} images):", *flags]
    lines += ["", "Notes:", *(f"- {note}" for note in report["notes"])] if report["notes"] else []
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, eq=False)
class Report:
    """The result of `evaluate_model`; str() of it is a table in Markdown.

    Attributes
    ----------
    attacked_by_gradients : bool
        Whether the model or a surrogate has a gradient; if not, the first line of the table says so.
    rows : list of dict
        One per attack, "natural" first: "name", "accuracy" (a fraction), "stderr" and others.
    worst_case : list of dict
        Accuracy under the worst attack on every image, one per number of attacked images, in decreasing order. None for
        a noisy model that was repeated only once.
    red_flags : list of dict
        "name", "what" and "remedy", see `nets.red_flags`.
    n_flagged : int
        Number of images on which red flags were looked for.
    eot_curve : list of dict
        Robust accuracy by "n_eot", the number of draws per gradient, if the model is noisy.
    notes : list of str
        Caveats that go with the numbers.
    settings, provenance : dict
        Settings of the evaluation, and the software, machine and model.
    seconds : float
        Time of the call.
    x_adv : dict of str to Tensor of shape (n_images, ...)
        Attacked images by attack, with keep_images=True.
    """

    attacked_by_gradients: bool
    rows: list
    worst_case: list
    red_flags: list
    n_flagged: int
    eot_curve: list
    notes: list
    settings: dict
    provenance: dict
    seconds: float
    x_adv: dict = field(default_factory=dict, repr=False)

    @property
    def accuracy(self):
        """Accuracy on the clean images."""
        return self.rows[0]["accuracy"]

    @property
    def robust_accuracy(self):
        """Accuracy under the worst attack on every image, None if `worst_case` is empty."""
        return self.worst_case[0]["accuracy"] if self.worst_case else None

    def to_json(self, path=None):
        """Return the report, without images, as JSON, and write it to a file if a path is given.

        Parameters
        ----------
        path : path, optional
            File to be written.

        Returns
        -------
        str
        """
        text = json.dumps({k: v for k, v in vars(self).items() if k != "x_adv"}, indent=2, allow_nan=False) + "\n"
        if path is not None:
            with _enresnet.renamed(Path(path)) as draft:
                draft.write_text(text, encoding="utf-8")
        return text

    def __str__(self):
        settings = self.settings
        top = [] if self.attacked_by_gradients else ["**Not attacked by gradients**: the model has none.", ""]
        top.append(f"{settings['n_images']} images, eps = {settings['eps']:.4g} in {settings['norm']}.")
        if settings["is_noisy"]:
            top[-1] += f" The model is noisy: predictions are means over {settings['n_draws']} draws, "
            top[-1] += f"repeated {settings['n_repeats']} times."
        flags = {"n_images": self.n_flagged, "found": self.red_flags}
        table = markdown({"rows": self.rows + self.worst_case, "red_flags": flags, "notes": self.notes})
        head, _, rest = table.partition("\n\n")
        lines = [*top, "", head, *self._curve_lines(), "", rest.rstrip(), "", f"{self.seconds:.0f} seconds"]
        return "\n".join(lines)

    def _curve_lines(self):
        if not self.eot_curve:
            return []
        first = self.eot_curve[0]
        lines = ["", f"{first['attack']} by number of draws per gradient ({first['n']} images):", ""]
        lines += ["| draws | accuracy ± s.e. |", "|---|---|"]
        lines += [f"| {p['n_eot']} | {p['accuracy']:.4f} ± {p['stderr']:.4f} |" for p in self.eot_curve]
        reached = self.eot_curve[-1].get("plateau", False)
        return [*lines, "", "The plateau is reached." if reached else "The plateau is not reached: use more draws."]
