"""The numbers printed in the paper's Tables 1 to 11 and section 4.4, with which ours are compared.

Rows are (model, natural, FGSM, IFGSM^20, C-W), in per cent as printed; None where the paper has no column. Where two
places of the paper disagree, NOTES quotes both; the rows are as in the tables, without corrections.
"""

from typing import NamedTuple

__all__ = ["MASK", "NOTES", "Note", "PARAMETERS", "ROWS", "Row"]


class Row(NamedTuple):
    """A row of a table: a model, named as for `nets.build`, and its accuracies in per cent.

    `oracle` is the model on which a blind attack (Tables 3 and 6) was made.
    """

    model: str
    natural: float | None = None
    fgsm: float | None = None
    ifgsm20: float | None = None
    cw: float | None = None
    oracle: str | None = None


class Note(NamedTuple):
    """Two statements of the paper that disagree, each with its place, and the keys of ROWS that the note is about."""

    tables: tuple
    one: str
    other: str


def _blind(model, oracle, fgsm, ifgsm20, cw):
    return Row(model, None, fgsm, ifgsm20, cw, oracle)


ROWS = {
    "table1": [
        Row("resnet20", 92.10),
        Row("en1_resnet20", 92.59),
        Row("en2_resnet20", 92.60),
        Row("en5_resnet20", 92.74),
        Row("resnet44", 93.22),
        Row("en1_resnet44", 93.37),
        Row("en2_resnet44", 93.54),
        Row("resnet110", 94.30),
        Row("en2_resnet110", 93.49),
    ],
    "table2": [
        Row("resnet20", 75.11, 50.89, 46.03, 58.73),
        Row("en1_resnet20", 77.21, 55.35, 49.06, 65.69),
        Row("en2_resnet20", 80.34, 57.23, 50.06, 66.47),
        Row("en5_resnet20", 82.52, 58.92, 51.48, 67.73),
        Row("resnet44", 78.89, 54.54, 48.85, 61.33),
        Row("en1_resnet44", 82.03, 57.80, 51.83, 66.00),
        Row("en2_resnet44", 82.91, 58.29, 51.86, 66.89),
        Row("resnet110", 82.19, 57.61, 52.02, 62.92),
        Row("en2_resnet110", 82.43, 59.24, 53.03, 68.67),
        Row("en1_wrn34_10", 86.19, 61.82, 56.60, 69.32),
    ],
    "table3": [
        _blind("resnet20", "en5_resnet20", 61.69, 58.74, 73.77),
        _blind("en5_resnet20", "resnet20", 64.07, 62.99, 76.57),
        _blind("resnet44", "en2_resnet44", 63.87, 60.66, 75.83),
        _blind("en2_resnet44", "resnet44", 64.52, 61.23, 76.99),
        _blind("resnet110", "en2_resnet110", 64.19, 61.80, 75.19),
        _blind("en2_resnet110", "resnet110", 66.26, 62.89, 77.71),
    ],
    "table4": [
        Row("resnet20", 68.53),
        Row("resnet44", 71.48),
        Row("en2_resnet20", 69.57),
        Row("en5_resnet20", 70.22),
    ],
    "table5": [
        Row("resnet20", 46.02, 24.77, 23.23, 32.42),
        Row("en2_resnet20", 50.68, 30.20, 26.25, 40.06),
        Row("en5_resnet20", 51.72, 31.64, 27.80, 40.44),
        Row("resnet44", 50.38, 28.40, 25.81, 36.06),
    ],
    "table6": [
        _blind("resnet20", "en2_resnet20", 33.08, 30.79, 41.52),
        _blind("en2_resnet20", "resnet20", 34.15, 33.34, 48.21),
    ],
    "table7": [
        Row("en2_resnet20+en5_resnet20", 82.82, 59.14, 53.15, 68.00),
        Row("en2_resnet44+en5_resnet20", 82.99, 59.64, 53.86, 69.36),
        Row("en2_resnet110+en5_resnet20", 83.57, 60.63, 54.87, 70.02),
        Row("en2_resnet110+en1_wrn34_10", 85.62, 62.48, 57.94, 70.20),
    ],
    "table8": [
        Row("en2_resnet20", 80.34, 57.23, 50.06, 66.47),
        Row("wrn14_2", 78.37, 52.93, 48.85, 60.30),
    ],
    "table9": [
        Row("en2_resnet32", 81.46, None, 52.06, 68.41),
        Row("en1_resnet20+en1_resnet32", 81.56, None, 51.99, 68.62),
    ],
    "table10": [
        Row("en2_resnet32", 53.14, None, 27.27, 41.50),
        Row("en1_resnet20+en1_resnet32", 53.07, None, 27.01, 42.23),
    ],
    "table11": [
        Row("resnet20", 75.11, 50.89, 46.03, 58.73),
        Row("en1_resnet20", 79.25, 53.79, 47.44, 62.99),
        Row("en2_resnet20", 80.87, 54.56, 48.09, 63.68),
        Row("en5_resnet20", 83.09, 56.09, 49.25, 64.93),
    ],
    # Ensembles without noise: two trained jointly, two trained separately, and a different pair trained separately.
    "section4.4": [
        Row("en2_resnet20", 75.75, 51.11, 47.28, 59.73),
        Row("resnet20+resnet20", 74.96, 51.68, 47.86, 59.80),
        Row("resnet20+resnet44", 77.92, 54.73, 51.47, 61.77),
    ],
}

# Section 4.4: Table 1's naturally trained networks under IFGSM^20, to show that gradients are not masked.
MASK = [
    Row("en1_resnet20", ifgsm20=0.0),
    Row("en2_resnet20", ifgsm20=0.02),
    Row("en5_resnet20", ifgsm20=0.03),
]

# Table 4's last column, in millions.
PARAMETERS = {"resnet20": 0.27, "resnet44": 0.66, "en2_resnet20": 0.54, "en5_resnet20": 1.35}

NOTES = [
    Note(
        ("table1",),
        "Section 4.1: naturally trained ensembles are more accurate than their base networks, as ResNet20, ResNet44 "
        "and ResNet110 confirm",
        "Table 1: En2ResNet110 has 93.49, less than the 94.30 of ResNet110",
    ),
    Note(
        ("table1", "table4", "table5"),
        "Captions of Tables 1, 4 and 5: ResNet20 and its ensembles",
        "their rows: those of ResNet44 are there as well, in Table 1 those of ResNet110 too",
    ),
    Note(
        ("table2",),
        "Section 4.1: En2ResNet110 is more accurate than En2ResNet44 on clean and on adversarial images",
        "Table 2: on clean images it has 82.43, less than the 82.91 of En2ResNet44",
    ),
    Note(
        ("table4",),
        "Table 4: 0.27M, 0.66M, 0.54M and 1.35M parameters, on CIFAR100",
        "nets.build: these are the numbers with the 10 outputs of CIFAR10 (1.35 being five times 0.27); with 100 "
        "outputs they are 0.28M, 0.67M, 0.56M and 1.39M",
    ),
    Note(
        ("table4", "table5"),
        "Section 4.1, at its end: EnResNets are more accurate on clean images than deeper networks of the same size",
        "Table 4: trained naturally, En2ResNet20 and En5ResNet20 have 69.57 and 70.22, less than the 71.48 of "
        "ResNet44; the sentence holds in Table 5",
    ),
    Note(
        ("table5",),
        "Section 4.1: En5ResNet20 raises ResNet20's accuracies under three attacks, FGSM, IFGSM^20 and C-W, to four "
        "numbers, 'respectively'",
        "Table 5: the four are 51.72, which is on natural images, and 31.64, 27.80 and 40.44 under the attacks; the "
        "numbers are the same in both places",
    ),
    Note(
        ("table2", "table7"),
        "Section 4.2, below Table 7: En2ResNet110 has 53.05 under IFGSM^20",
        "Table 2: it has 53.03",
    ),
    Note(
        ("table8",),
        "Section 4.3, at its beginning: EnResNet and wide ResNet are compared with the same number of parameters",
        "the same section: WRN-14-2 has some 0.69M, more than the ensemble, whose 0.54M stand in Table 4",
    ),
    Note(
        ("table8",),
        "Caption of Table 8, and section 4.3: 'En2esNet20', and 'EnResNet' with the index 20",
        "Table 8: its row is En2ResNet20's",
    ),
    Note(
        ("section4.4",),
        "Section 4.4: ensembles by Feynman-Kac are much more accurate than ensembles without noise, on natural and on "
        "adversarial images",
        "the same section: ResNet20 and ResNet44, trained separately, have 51.47 under IFGSM^20, more than the 50.06 "
        "of En2ResNet20 in Table 2",
    ),
    Note(
        ("table9",),
        "Section 5: ResNet20 with ResNet32 outperforms En2ResNet32, '81.46 vs. 81.56' on clean images and '68.41 vs. "
        "68.62' under C-W",
        "Table 9: the numbers stand in the other order: En2ResNet32 has 81.46 and 68.41, the pair 81.56 and 68.62",
    ),
    Note(
        ("table11",),
        "Section 6: with Laplace noise the networks are slightly inferior to those of Table 2",
        "Table 11: on natural images they are better, 79.25, 80.87 and 83.09 against 77.21, 80.34 and 82.52 in "
        "Table 2; the sentence holds under every attack",
    ),
]
