"""diffrax: `Euler` with constant steps, in float32.

Brownian increments drawn step by step (UnsafeBrownianPath), or from a tree that adaptive steps could use too
(VirtualBrownianTree, the default of its documentation).
"""

import diffrax
import jax
import jax.numpy as jnp
import jax_bilinear
import numpy as np
from particles import means, starts, step_sizes
from worker import serve


class ScalarNoise(diffrax.ControlTerm):
    """sigma dB: a number times the increments, no matrix."""

    def prod(self, vf, control):
        return vf * control


def make_solve(fields, n_paths, n_steps, brownian):
    dt, _ = step_sizes(fields, n_steps)
    horizon, length = float(fields["horizon"]), float(fields["length"])
    sigma = jnp.float32(float(fields["sigma"]) / length)
    velocity = jax_bilinear.make_velocity(fields["velocity"] / length)
    begin = jnp.asarray(starts(fields, n_paths, "float32"))

    @jax_bilinear.over_cores
    def advance(key, positions):
        shape = jax.ShapeDtypeStruct(positions.shape, positions.dtype)
        if brownian == "UnsafeBrownianPath":
            path = diffrax.UnsafeBrownianPath(shape, key)
        else:
            path = diffrax.VirtualBrownianTree(0.0, horizon, dt / 2, shape, key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, _: velocity(x)), ScalarNoise(lambda t, x, _: sigma, path)
        )
        solution = diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, horizon, dt, positions, max_steps=None,
            adjoint=diffrax.ForwardMode(), saveat=diffrax.SaveAt(t1=True),
        )  # fmt: skip
        return solution.ys[-1]

    def solve():
        return means(fields, np.asarray(advance(jax.random.key(1), begin)), n_paths), n_steps

    return solve


if __name__ == "__main__":
    serve("Euler-Maruyama", make_solve, "diffrax", "jax", "equinox")
