"""JAX by hand: one `fori_loop` over the steps, jitted, in float32."""

import jax
import jax.numpy as jnp
import jax_bilinear
import numpy as np
from particles import means, starts, step_sizes
from worker import serve


def make_solve(fields, n_paths, n_steps):
    dt, scale = step_sizes(fields, n_steps)
    velocity = jax_bilinear.make_velocity(fields["velocity"] / float(fields["length"]))
    begin = jnp.asarray(starts(fields, n_paths, "float32"))

    @jax_bilinear.over_cores
    def advance(key, positions):
        def step(k, x):
            return x + dt * velocity(x) + scale * jax.random.normal(jax.random.fold_in(key, k), x.shape)

        return jax.lax.fori_loop(0, n_steps, step, positions)

    def solve():
        end = np.asarray(advance(jax.random.key(1), begin))
        return means(fields, end, n_paths), n_steps

    return solve


if __name__ == "__main__":
    serve("Euler-Maruyama", make_solve, "jax")
