"""This project: `pde.spectral.solve`, timed from the arrays to the solution."""

from worker import serve

import pde


def make_solve(fields, rtol):
    physics = {name: float(fields[name]) for name in ("sigma", "horizon", "length")}

    def solve():
        problem = pde.ConvectionDiffusion(fields["velocity"], fields["terminal"], **physics)
        solution = pde.spectral.solve(problem, rtol=rtol)
        return solution.u, solution.n_steps

    return solve


if __name__ == "__main__":
    serve("adaptive Krylov", make_solve, "scipy", "numba")
