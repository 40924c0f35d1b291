"""Shared by the two JAX tools: the velocity, and particles spread over the cores, which the driver makes devices."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


def make_velocity(values):
    """Positions (2, m) of period 1 to velocities (2, m), from values (2, n, n), in float32."""
    n = values.shape[1]
    # One row of a table for both components of one grid point.
    table = jnp.asarray(values.transpose(1, 2, 0).reshape(-1, 2), jnp.float32)

    def velocity(position):
        scaled = position * n
        floor = jnp.floor(scaled)
        gx, gy = (scaled - floor)[:, :, None]
        i, j = floor.astype(jnp.int32) % n
        i1, j1 = (i + 1) % n, (j + 1) % n
        a, b, c, d = (table[k] for k in (i * n + j, i * n + j1, i1 * n + j, i1 * n + j1))
        lower = a + gy * (b - a)
        return (lower + gx * (c + gy * (d - c) - lower)).T

    return velocity


def over_cores(advance):
    """Jit `advance(key, positions)`, each core with a share of the positions and a key of its own."""
    mesh = jax.make_mesh((len(jax.devices()),), ("cores",), axis_types=(AxisType.Auto,))

    def share(key, positions):
        return advance(jax.random.fold_in(key, jax.lax.axis_index("cores")), positions)

    return jax.jit(
        jax.shard_map(share, mesh=mesh, in_specs=(P(), P(None, "cores")), out_specs=P(None, "cores"), check_vma=False)
    )
