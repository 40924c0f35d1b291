"""auto-attack, the authors' own code as the package pyautoattack has it: `APGDAttack` and `FABAttack_PT`."""

from plain_networks import load, make, problem
from pyautoattack.autopgd_base import APGDAttack
from pyautoattack.fab_pt import FABAttack_PT
from worker import serve


def make_solve(fields, network, attack, n_iter, eps, norm="linf"):
    model = load(make(network), fields)
    x, y = problem(fields)
    common = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "n_iter": n_iter, "device": "cpu"}
    made = {
        "apgd": lambda: APGDAttack(model, loss="ce", **common),
        "fab": lambda: FABAttack_PT(model, **common),
        "fab-t": lambda: FABAttack_PT(model, targeted=True, **common),
    }[attack]()

    def solve():
        return made.perturb(x, y).detach().numpy(), n_iter

    return solve


if __name__ == "__main__":
    serve("auto-attack", make_solve, "torch", "pyautoattack")
