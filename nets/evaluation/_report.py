"""Reports of evaluations: as JSON, and as a table in Markdown."""

import json
from dataclasses import dataclass, field

from nets.published import MASK
from nets.red_flags import NOTHING


def gradient_mask(rows, record):
    """Look for masked gradients as the paper's section 4.4 does: without a defence or bounds, nothing may be left.

    "ifgsm20" is the accuracy under it of a naturally trained network, beside the paper's; "unbounded" that under an
    attack in the whole cube; "nothing" the accuracy up to which they count as none.
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
    """List what a reader must know beside the numbers of a run."""
    said, epochs = [], record["recipe"]["epochs"]
    if data["encoding"] == "JPEG":
        said.append("the images went through JPEG encoding")
    if data["digest"] != record["data"]["digest"]:
        said.append(f"the network was trained on other images, of {record['data']['name']}")
    if n_epochs is not None and n_epochs < epochs:
        said.append(f"the run is not finished: {n_epochs} epochs of {epochs}")
    if record["recipe"]["select_on"] == "test":
        said.append("the best epoch was chosen on the test images, of which these are some")
    if is_noisy and record["model"]["std_over"] == "batch":
        said.append("the noise is scaled over the batch: an image's answer depends on the others in its batch")
    if mask["ifgsm20"] is not None:
        verdict = "no sign of masked gradients" if mask["ifgsm20"] <= NOTHING else "its gradients may be masked"
        said.append(f"naturally trained, {mask['ifgsm20']:.4f} under IFGSM^20: {verdict} (paper: section 4.4)")
    if mask["unbounded"] is not None and mask["unbounded"] > NOTHING:
        said.append(f"an attack without bounds leaves {mask['unbounded']:.4f} right: the gradients may be masked")
    return said


def markdown(report):
    """Return the report's table, and its red flags, in Markdown.

    Parameters
    ----------
    report : dict
        See `nets.evaluate`.

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
        False if neither the model nor a surrogate has a gradient: the first line of the table then says so.
    rows : list of dict
        One per attack, "natural" first: "name", "accuracy" (a fraction) and "stderr" among others.
    worst_case : list of dict
        Accuracy under the worst attack on every image; the last attacks on most images first.
    red_flags : list of dict
        "name", "what" and "remedy", see `nets.red_flags`.
    n_flagged : int
        Images on which red flags were looked for.
    eot_curve : list of dict
        Robust accuracy against "n_eot", the draws per gradient, if the model draws.
    notes : list of str
        What a reader must know beside the numbers.
    settings, provenance : dict
        How the numbers were made, and by what.
    seconds : float
        Time of the call.
    x_adv : dict of str to Tensor of shape (n_images, ...)
        Attacked images by attack, if they were asked for.
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
        """Accuracy under the worst attack on every image, None if there was no attack."""
        return self.worst_case[0]["accuracy"] if self.worst_case else None

    def to_json(self, path=None):
        """Return the report, without images, as JSON; write it to a file as well if a path is given.

        Parameters
        ----------
        path : path, optional
            File.

        Returns
        -------
        str
        """
        text = json.dumps({k: v for k, v in vars(self).items() if k != "x_adv"}, indent=2, allow_nan=False) + "\n"
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text

    def __str__(self):
        settings = self.settings
        told = [] if self.attacked_by_gradients else ["**Not attacked by gradients**: the model has none.", ""]
        told.append(f"{settings['n_images']} images, eps = {settings['eps']:.4g} in {settings['norm']}.")
        if settings["is_noisy"]:
            told[-1] += f" The model draws: predictions are means over {settings['n_draws']} draws, "
            told[-1] += f"repeated {settings['n_repeats']} times."
        flags = {"n_images": self.n_flagged, "found": self.red_flags}
        table = markdown({"rows": self.rows + self.worst_case, "red_flags": flags, "notes": self.notes})
        head, _, rest = table.partition("\n\n")
        lines = [*told, "", head, *self._curve_lines(), "", rest.rstrip(), "", f"{self.seconds:.0f} seconds"]
        return "\n".join(lines)

    def _curve_lines(self):
        if not self.eot_curve:
            return []
        first = self.eot_curve[0]
        lines = ["", f"{first['attack']} against the draws averaged over ({first['n']} images):", ""]
        lines += ["| draws | accuracy ± s.e. |", "|---|---|"]
        lines += [f"| {p['n_eot']} | {p['accuracy']:.4f} ± {p['stderr']:.4f} |" for p in self.eot_curve]
        reached = self.eot_curve[-1].get("plateau", False)
        return [*lines, "", "The plateau is reached." if reached else "The plateau is not reached: take more draws."]
