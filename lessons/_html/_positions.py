"""The positions of the controls that a page offers; for controls not listed, all those of the lesson.

A page holds one picture per combination, so that a second slider gets fewer positions than the lesson that computes.
"""

import numpy as np

__all__ = ["POSITIONS"]

# Numbers of draws: dense near the right answer, about a thousand, where 10 per cent decide.
DRAWS = [0, 10, 20, 50, 100, 200, 400, *np.round(700 * 1.08 ** np.arange(10)).astype(int).tolist(), 2000, 4000]

POSITIONS = {
    "residual_block_is_euler_step": {
        "stiffness": [1, 4, 8, 12, 16, 24, 40, 60],
        "answer": list(range(1, 201)),
    },
    "noise_makes_euler_maruyama": {
        "n_paths": [32, 128, 512, 1024, 4096, 16384],
        "n_layers": [1, 2, 4, 8, 32],
    },
    "diffusion_regularises": {
        "x": [0.2, 0.4, 0.8],
        "y": [0.3],
        "unit": [1, 2, 5, 10, 20, 40, 80],
    },
    "ensemble_is_expectation": {
        "noise": [0, 0.2, 0.4, 1],
        "draws": [1, 4, 16],
        "eps": [0.08, 0.12],
        "answer": DRAWS,
    },
    "trained_networks": {
        "noise": [0, 0.2, 0.5, 1],
        "k": [1, 2, 4, 8, 64],
        "answer": [round(0.01 * i, 2) for i in range(101)],
    },
    "diffusion_as_certificate": {
        "sigma": [0.08, 0.15, 0.2, 0.3],
        "speed": [0, 0.2, 1],
        "x": [0.3, 0.84],
        "y": [0.1, 0.72],
    },
}
