"""Default attacks of the command and their sizes: for seconds, for minutes on two cores, or for a GPU."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Default attacks and sizes: `plain` attacks on deterministic models, `noisy` attacks on noisy models, `blind`
    attacks through an oracle; `n_flagged` images and `n_eot_flagged` draws per gradient for the red flags.
    """

    n_images: int
    n_repeats: int
    n_iter: int
    n_queries: int
    n_flagged: int
    n_eot_flagged: int
    plain: tuple
    noisy: tuple
    blind: tuple = ("blind-fgsm", "blind-ifgsm20", "blind-cw")


OFF = ("noise-off-natural", "noise-off-ifgsm20", "transfer-ifgsm20")
PRESETS = {
    "quick": Preset(
        n_images=20,
        n_repeats=2,
        n_iter=5,
        n_queries=20,
        n_flagged=2,
        n_eot_flagged=2,
        plain=("natural", "fgsm", "ifgsm20", "apgd-ce"),
        noisy=("natural", "fgsm", "ifgsm20-eot1", "apgd-ce-eot5@10", "transfer-ifgsm20"),
        blind=("blind-ifgsm20",),
    ),
    "cpu": Preset(
        n_images=1000,
        n_repeats=5,
        n_iter=20,
        n_queries=500,
        n_flagged=20,
        n_eot_flagged=5,
        plain=(
            *("natural", "fgsm", "ifgsm20", "cw", "cw-as-released@200", "apgd-ce", "apgd-dlr", "square@200"),
            "unbounded@100",
        ),
        noisy=(
            *("natural", "fgsm", "ifgsm20", "cw@100", "cw-as-released@100", *OFF, "ifgsm20-eot1@200"),
            *("ifgsm20-eot20@100", "ifgsm20-eot5-logits@100", "ifgsm20-eot20-logits@100"),
            *("apgd-ce-eot20@200", "apgd-dlr-eot20@100", "unbounded@40"),
        ),
        blind=("blind-fgsm", "blind-ifgsm20", "blind-cw@100"),
    ),
    "full": Preset(
        n_images=1000,
        n_repeats=5,
        n_iter=100,
        n_queries=5000,
        n_flagged=100,
        n_eot_flagged=20,
        plain=(
            *("natural", "fgsm", "ifgsm20", "cw", "cw-as-released", "apgd-ce", "apgd-dlr", "autoattack"),
            *("square@200", "unbounded"),
        ),
        noisy=(
            *("natural", "fgsm", "ifgsm20", "cw", "cw-as-released", *OFF, "transfer-cw", "ifgsm20-eot1"),
            *("ifgsm20-eot20", "ifgsm20-eot5-logits", "ifgsm20-eot20-logits", "apgd-ce-eot20", "apgd-dlr-eot20"),
            *("apgd-ce-eot20-logits", "autoattack", "square@200", "unbounded@200"),
        ),
    ),
}
