"""This project: `pde.feynman_kac.estimate`, or `solve_to` or `multilevel` to a given error, from arrays to means."""

import numpy as np
from worker import serve

import pde


def make_solve(fields, n_paths, n_steps, **options):
    physics = {name: float(fields[name]) for name in ("sigma", "horizon", "length")}

    def solve():
        velocity = pde.PeriodicField(fields["velocity"], physics["length"], "bilinear")
        problem = pde.ConvectionDiffusion(velocity, fields["terminal"], **physics)
        if "stderr" in options:
            way = getattr(pde.feynman_kac, options.get("way", "solve_to"))
            found = way(problem, fields["points"], stderr=options["stderr"], rng=1)
        else:
            found = pde.feynman_kac.estimate(problem, fields["points"], n_paths, n_steps, 1, **options)
        # Of multilevel, those of the finest paths.
        return found.mean, np.max(found.n_steps)

    return solve


if __name__ == "__main__":
    serve("Feynman-Kac", make_solve, "numba")
