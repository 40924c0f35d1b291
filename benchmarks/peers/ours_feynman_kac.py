"""This project: `pde.feynman_kac.estimate`, or `solve_to` if an error is prescribed, timed from arrays to means."""

from worker import serve

import pde


def make_solve(fields, n_paths, n_steps, **options):
    physics = {name: float(fields[name]) for name in ("sigma", "horizon", "length")}

    def solve():
        velocity = pde.PeriodicField(fields["velocity"], physics["length"], "bilinear")
        problem = pde.ConvectionDiffusion(velocity, fields["terminal"], **physics)
        if "stderr" in options:
            found = pde.feynman_kac.solve_to(problem, fields["points"], options["stderr"], 1)
        else:
            found = pde.feynman_kac.estimate(problem, fields["points"], n_paths, n_steps, 1, **options)
        return found.mean, found.n_steps

    return solve


if __name__ == "__main__":
    serve("Feynman-Kac", make_solve, "numba")
