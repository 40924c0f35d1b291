"""The networks' operations on a GPU, without one: traced with fake tensors, which have a device and no data.

A tensor that stays on the CPU ends such a trace with an error. Gradients need a driver even so, and are not traced.
"""

from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import nets
from bridge import noisy_blocks

N = 8


@pytest.fixture
def traced(monkeypatch):
    """A function (model, of the state and its arguments) -> (graph, values of the nodes that are tensors)."""
    if not torch.cuda.is_available():
        # Fake tensors need no driver, and random ones ask for it all the same.
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    mode = FakeTensorMode()

    def trace(model, function):
        state = [*model.named_parameters(), *model.named_buffers()]
        with mode:
            there = {name: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda") for name, t in state}
            x, y = torch.empty(N, 3, 32, 32, device="cuda"), torch.empty(N, dtype=torch.long, device="cuda")
            graph = make_fx(function)(there, x, y).graph
        values = [value for node in graph.nodes if isinstance(value := node.meta.get("val"), torch.Tensor)]
        return graph, values

    return trace


def operations(graph):
    return Counter(str(node.target) for node in graph.nodes if node.op == "call_function")


@pytest.mark.parametrize(("noise", "drawn"), [("gaussian", "randn"), ("laplace", "rand")])
@pytest.mark.parametrize("training", [False, True])
def test_forward_pass_is_exported_for_cuda_with_one_draw_per_block(noise, drawn, training, traced):
    model = nets.build("en1_resnet20", noise=noise).train(training)
    graph, values = traced(model, lambda state, x, y: torch.func.functional_call(model, state, (x,)))
    assert {value.device.type for value in values} == {"cuda"}
    found = operations(graph)
    # Stem, two per block, two on the shortcuts of the stages: 1 + 18 + 2.
    assert found["aten.convolution.default"] == 21
    draws = {name: count for name, count in found.items() if "rand" in name}
    assert draws == {f"aten.{drawn}.generator": len(noisy_blocks(model))} and len(noisy_blocks(model)) == 9
    (out,) = (node for node in graph.nodes if node.op == "output")
    logits = out.args[0].meta["val"] if not isinstance(out.args[0], (list, tuple)) else out.args[0][0].meta["val"]
    assert logits.shape == (N, 10) and logits.dtype == torch.float32


def test_a_tensor_left_on_the_cpu_is_seen(traced):
    model = nets.build("resnet20").eval()
    shift = torch.ones(3, 1, 1)
    with pytest.raises((RuntimeError, AssertionError)):
        traced(model, lambda state, x, y: torch.func.functional_call(model, state, (x + shift,)))
