"""The claims of the paper that numbers can decide, and the rules of the decision.

A claim on accuracies is a gain g = second - first, measured on the same images with the paired standard error s of
`nets.compare`; p is the paper's gain, from its tables. If p < 0, the signs of g and p are changed first.

    holds              g > 2 s, and the paper's gain is within two standard errors: |p - g| <= 2 s
    holds in part      g > 2 s, but the paper's gain is not within two standard errors
    does not hold      g <= 2 s, and the paper's gain is excluded: p > g + 2 s
    not reached        too few images or seeds to exclude either, one network on a side, whose error leaves out the
                       training (2), or nothing was measured

A claim without a printed number only has a direction: it holds if g > 2 s, does not hold if g < -2 s, else not reached.
A claim that something is at most c holds if x + 2 s <= c, does not hold if x - 2 s > c, else not reached. A claim that
a bound or a principle is satisfied holds if it is satisfied in every case measured.

If a pair has several comparisons, the one with the most networks counts, then the one on the most images, then the one
by the most attacks; of worst cases, before that, the one of the most attacks. Of the attacks of a claim, the one on the
most images counts, then the first (3).

All this was written before any number was read, but for four additions: (1) the rows of the controls, before those were
run; (2) that one network on a side decides nothing, when the Laplace network would have read "does not hold"; (3) the
last sentence, when comparisons came to have several attacks of a claim; (4) of the weights' numbers, whose errors are
of two or three seeds, 2 s is the reach of an interval of 95 % of Student's distribution with Welch's degrees of
freedom: it turned two rows into "not reached".
"""

from typing import NamedTuple

from nets.published import MASK, ROWS
from nets.sparsity import PUBLISHED

__all__ = ["CLAIMS", "WORDS", "Gain", "Left", "Record", "decide", "decide_at_most"]

WORDS = ("holds", "holds in part", "does not hold", "not reached")
HOLDS, IN_PART, FAILS, NOT_REACHED = WORDS
# With masked gradients an attack leaves more of the accuracy than this; the paper reports at most 0.03 %.
LEFT = 0.01
AVERAGED = ("ifgsm20-eot20", "ifgsm20")


class Gain(NamedTuple):
    """A gain in accuracy (fraction) from one kind of network to another, under one of these attacks."""

    claim: str
    what: str
    first: str
    second: str
    attacks: tuple
    published: float | None
    section: str


class Left(NamedTuple):
    """An accuracy of a kind of network that must be at most LEFT under one of these attacks."""

    claim: str
    what: str
    kind: str
    attacks: tuple
    published: float
    section: str


class Record(NamedTuple):
    """A number in the JSON file of another figure, as a function of the file; `unit` is written after it."""

    claim: str
    what: str
    figure: str
    measure: str
    published: str
    section: str


def _paper(table, model, attack):
    (row,) = (row for row in ROWS[table] if row.model == model)
    return getattr(row, attack) / 100


def _gain(attack, second, first="resnet20", table="table2", first_table=None):
    return _paper(table, second, attack) - _paper(first_table or table, first, attack)


def _masked():
    (row,) = (row for row in MASK if row.model == "en1_resnet20")
    return row.ifgsm20 / 100


EN1, EN2, PLAIN = "En1ResNet-20", "En2ResNet-20", "ResNet-20"
MUTE = f"{EN2} without noise"
CLAIMS = (
    Gain("Noise raises natural accuracy", f"{EN1} − {PLAIN}, natural images", "resnet20", "en1_resnet20",
         ("natural",), _gain("natural", "en1_resnet20"), "Table 2"),
    Gain("Noise raises natural accuracy", f"{EN1} − {PLAIN}, both trained naturally", "resnet20, natural",
         "en1_resnet20, natural", ("natural",), _gain("natural", "en1_resnet20", table="table1"), "Table 1"),
    Gain("Noise raises robust accuracy", f"{EN1} − {PLAIN}, FGSM", "resnet20", "en1_resnet20",
         ("fgsm-eot20", "fgsm"), _gain("fgsm", "en1_resnet20"), "Table 2"),
    Gain("Noise raises robust accuracy", f"{EN1} − {PLAIN}, IFGSM²⁰", "resnet20", "en1_resnet20", AVERAGED,
         _gain("ifgsm20", "en1_resnet20"), "Table 2"),
    Gain("Noise raises robust accuracy", f"{EN1} − {PLAIN}, C-W", "resnet20", "en1_resnet20", ("cw",),
         _gain("cw", "en1_resnet20"), "Table 2"),
    Gain("Noise raises robust accuracy", f"{EN1} − {PLAIN}, worst case of all attacks", "resnet20", "en1_resnet20",
         ("worst case",), None, "beyond the paper"),
    Gain("Ensembling adds", f"{EN2} − {EN1}, natural images", "en1_resnet20", "en2_resnet20", ("natural",),
         _gain("natural", "en2_resnet20", "en1_resnet20"), "Table 2"),
    Gain("Ensembling adds", f"{EN2} − {EN1}, IFGSM²⁰", "en1_resnet20", "en2_resnet20", AVERAGED,
         _gain("ifgsm20", "en2_resnet20", "en1_resnet20"), "Table 2"),
    Gain("Ensembling adds", f"{EN2} − {PLAIN}, worst case of all attacks", "resnet20", "en2_resnet20",
         ("worst case",), None, "beyond the paper"),
    Gain("It is the noise, not the ensemble", f"{EN2} − {MUTE}, natural images", "en2_resnet20, no noise",
         "en2_resnet20", ("natural",), _gain("natural", "en2_resnet20", "en2_resnet20", "table2", "section4.4"),
         "section 4.4"),
    Gain("It is the noise, not the ensemble", f"{EN2} − {MUTE}, IFGSM²⁰", "en2_resnet20, no noise", "en2_resnet20",
         AVERAGED, _gain("ifgsm20", "en2_resnet20", "en2_resnet20", "table2", "section4.4"), "section 4.4"),
    Gain("It is the noise, not the ensemble", f"{EN2} − {MUTE}, worst case of all attacks", "en2_resnet20, no noise",
         "en2_resnet20", ("worst case",), None, "beyond the paper"),
    # Controls beyond the paper (1): is the noise alone enough, without training with it?
    Gain("Noise at evaluation alone is enough", f"{PLAIN} with En1's noise − {PLAIN}, natural images", "resnet20",
         "resnet20, noise in blocks", ("natural",), None, "beyond the paper"),
    Gain("Noise at evaluation alone is enough", f"{PLAIN} with En1's noise − {PLAIN}, IFGSM²⁰", "resnet20",
         "resnet20, noise in blocks", AVERAGED, None, "beyond the paper"),
    Gain("Noise at evaluation alone is enough", f"{PLAIN} with noise on the input − {PLAIN}, IFGSM²⁰", "resnet20",
         "resnet20, noise in input", AVERAGED, None, "beyond the paper"),
    # The paper's pair is ResNet-20 and En5; ours has the largest ensemble that was trained.
    Gain("EnResNets resist blind attacks better", f"{EN2} − {PLAIN}, each through the other, IFGSM²⁰",
         "resnet20, blind", "en2_resnet20, blind", ("blind-ifgsm20",),
         _paper("table3", "en5_resnet20", "ifgsm20") - _paper("table3", "resnet20", "ifgsm20"), "Table 3"),
    Left("Noise masks no gradients", f"{EN1} trained naturally, IFGSM²⁰", "en1_resnet20, natural", AVERAGED, _masked(),
         "section 4.4"),
    Record("Adversarial training gives less sparse weights", f"{PLAIN}: |w| < 10⁻³, natural − adversarial", "sparsity",
           "natural_less_adversarial", f"{100 * (PUBLISHED['natural'] - PUBLISHED['adversarial']):+.2f} points",
           "section 7"),
    Record("EnResNets have sparser weights", f"|w| < 10⁻³, {EN2} − {PLAIN}", "sparsity", "en2_below", "more",
           "section 7"),
    Record("EnResNets have sparser weights", f"|w| < 0.1 rms, {EN2} − {PLAIN}", "sparsity", "en2_relative", "more",
           "section 7, without scale"),
    Record("EnResNets have smoother weights", f"neighbouring taps, {PLAIN} − {EN2}", "sparsity", "en2_smoother", "more",
           "section 7"),
    Gain("Laplace noise is slightly worse", f"{EN1}, Laplace − Gaussian, IFGSM²⁰", "en1_resnet20",
         "en1_resnet20, laplace", AVERAGED, _gain("ifgsm20", "en1_resnet20", "en1_resnet20", "table11", "table2"),
         "Table 11"),
    Record("Figure 4's recipe runs", "pseudospectral, to the letter: max |u(·, 0)|", "fig4", "literal",
           "≤ max |f| = 1", "section 2.2"),
    Record("Figure 4 is its recipe's solution", "ranges and roughness of the three panels", "fig4_forensics", "printed",
           "the three panels", "Figure 4"),
    Record("Theorem 2.1: u is Hölder continuous", "least constant over the bound, grid noise", "theorems", "hoelder",
           "some C and α", "section 2.2"),
    Record("Theorem 2.2: bound on |∇u|", "v = 0, Gaussian, σ = 2: measured |∇u|", "theorems", "gradient",
           "the printed bound", "section 2.2"),
)  # fmt: skip


def decide(gain, stderr, published):
    """Return the word for a gain: see the head of this module.

    >>> decide(0.03, 0.01, 0.04), decide(0.03, 0.01, 0.08), decide(0.0, 0.01, 0.04), decide(0.0, 0.03, 0.04)
    ('holds', 'holds in part', 'does not hold', 'not reached')
    >>> decide(-0.02, 0.005, -0.016), decide(0.01, 0.001, None), decide(-0.01, 0.001, None)
    ('holds', 'holds', 'does not hold')
    """
    if published is None:
        return HOLDS if gain > 2 * stderr else FAILS if gain < -2 * stderr else NOT_REACHED
    sign = -1 if published < 0 else 1
    gain, published = sign * gain, sign * published
    if gain > 2 * stderr:
        return HOLDS if abs(published - gain) <= 2 * stderr else IN_PART
    return FAILS if published > gain + 2 * stderr else NOT_REACHED


def decide_at_most(value, stderr, limit):
    """Return the word for a number that must be at most the limit.

    >>> decide_at_most(0.001, 0.001, 0.01), decide_at_most(0.2, 0.01, 0.01), decide_at_most(0.01, 0.01, 0.01)
    ('holds', 'does not hold', 'not reached')
    """
    return HOLDS if value + 2 * stderr <= limit else FAILS if value - 2 * stderr > limit else NOT_REACHED
