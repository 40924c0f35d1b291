"""The networks that come with the package: names, cards, files, the sample, and other people's attacks on them."""

import json
import math

import pytest
import torch

import nets
from nets import checkpoint
from nets.zoo import _pack

NAMES = nets.zoo.names()
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def images():
    return nets.zoo.sample()


def accuracy(model, images, n=100):
    with torch.no_grad():
        return (model(images.x[:n]).argmax(1) == images.y[:n]).float().mean().item()


def test_zoo_holds_the_networks_of_the_verdict():
    for name in ("resnet20", "en1_resnet20", "en2_resnet20", "en2_resnet20-without-noise"):
        assert {f"cifar10/{name}-seed{seed}" for seed in (0, 1)} <= set(NAMES)


def test_files_are_small():
    sizes = {name: nets.zoo.path(name).stat().st_size for name in NAMES}
    assert all(size <= 0.6 * MEGABYTE for name, size in sizes.items() if "/en2" not in name)
    assert sum(file.stat().st_size for file in nets.zoo.HERE.rglob("*.*")) < 12 * MEGABYTE


@pytest.mark.parametrize("name", NAMES)
def test_network_loads_as_its_card_says(name):
    model, card = nets.load(name), nets.zoo.card(name)
    assert not any(module.training for module in model.modules())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert sum(weight.numel() for weight in model.parameters()) == card["weights"]["n_parameters"]
    assert checkpoint.digest(model.state_dict()) == card["weights"]["digest"]
    assert card["name"] == name and card["name"].endswith(f"-seed{card['seed']}")


@pytest.mark.parametrize("name", NAMES)
def test_card_says_what_was_done(name):
    card = nets.zoo.card(name)
    assert [row["epoch"] for row in card["history"]] == list(range(1, card["epoch"] + 1))
    assert card["data"]["encoding"] == "JPEG"
    assert set(card["licences"]) == {"weights", "images"}
    assert card["command"].startswith("python -m nets.train") and card["commit"]
    # A run that was ended early says so.
    assert (card["epoch"] < card["recipe"]["epochs"]) == any("epochs: the time" in text for text in card["differs"])
    for row in card["accuracies"]:
        assert 0 <= row["accuracy"] <= 1 and row["stderr"] >= 0 and row["n"] >= 100


@pytest.mark.parametrize("name", NAMES)
def test_network_classifies_the_sample_as_well_as_its_validation_images(name, images):
    """Binomial: within five standard errors of 100 images of the accuracy on 500, false alarms 1e-6 each."""
    expected = nets.zoo.card(name)["history"][-1]["average"]
    measured = accuracy(nets.load(name), images)
    assert abs(measured - expected) < 5 * math.sqrt(expected * (1 - expected) * (1 / 100 + 1 / 500))


def test_noisy_network_draws_and_plain_one_does_not(images):
    plain, noisy = (nets.load(f"cifar10/{name}-seed0") for name in ("resnet20", "en1_resnet20"))
    with torch.no_grad():
        assert torch.equal(plain(images.x[:4]), plain(images.x[:4]))
        assert not torch.equal(noisy(images.x[:4]), noisy(images.x[:4]))


def test_sample_holds_ten_images_of_each_class_in_turn(images):
    assert images.x.shape == (100, 3, 32, 32) and images.x.dtype == torch.float32
    assert images.y.view(10, 10).sort(1).values.eq(torch.arange(10)).all()
    assert images.x.min() >= 0 and images.x.max() <= 1
    # Whole multiples of 1/255, and no image twice.
    assert (images.x * 255 - (images.x * 255).round()).abs().max() < 1e-4
    assert len(images.x.flatten(1).unique(dim=0)) == 100
    assert "JPEG" in images.name


def test_wrong_names_get_near_ones():
    with pytest.raises(ValueError, match="similar names: cifar10/en1_resnet20-seed0"):
        nets.load("en1_resnet20-seed0")
    with pytest.raises(ValueError, match="cifar10/resnet20-seed"):
        nets.zoo.card("cifar10/resnet20-seed7")
    # Half a name, without data set and seed.
    with pytest.raises(ValueError, match="similar names: cifar10/resnet20-seed"):
        nets.zoo.card("resnet")
    with pytest.raises(ValueError, match="nor a path"):
        nets.load("/nowhere/at/all")
    with pytest.raises(ValueError, match="zoo has no network"):
        nets.load("zoo:nothing")
    with pytest.raises(ValueError, match="device"):
        nets.load(NAMES[0], device="tpu9")


def test_prefix_of_the_commands_is_understood():
    assert nets.zoo.path("zoo:cifar10/resnet20-seed0") == nets.zoo.path("cifar10/resnet20-seed0")


def test_run_is_packed_and_loads_from_its_directory_and_from_the_zoo(tmp_path, monkeypatch):
    model = nets.build("resnet20", 10, coef=0.1, seed=3).eval()
    recipe = {"keep": "best"}
    config = {"versions": {}, "device": "cpu", "precision": {}, "command": "python -m nets.train", "began": "now"}
    record = {"name": "cpu/resnet20", "recipe": recipe, "seed": 3, "data": {}, "epoch": 1, "versions": {}}
    record["model"] = {"name": "resnet20", "n_classes": 10}
    checkpoint.save_model(tmp_path / "best.safetensors", model, record)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.csv").write_text("epoch,loss,validation\n1,2.25,0.5\n")
    monkeypatch.setattr(_pack, "HERE", tmp_path / "zoo")
    monkeypatch.setattr(nets.zoo, "HERE", tmp_path / "zoo")
    (tmp_path / "zoo").mkdir()
    _pack.pack(tmp_path, "cifar10/resnet20-seed3", commit="0")
    assert nets.zoo.names() == ["cifar10/resnet20-seed3"]
    assert nets.zoo.card("cifar10/resnet20-seed3")["history"] == [{"epoch": 1, "loss": 2.25, "validation": 0.5}]
    run, packed = (nets.load(place).state_dict() for place in (tmp_path, "cifar10/resnet20-seed3"))
    for name, weight in run.items():
        # Half precision: 11 bits, rounded to nearest; what is smaller than 2^-14 loses at most 2^-25.
        bound = weight.abs() * 2.0**-11 + 2.0**-25 if weight.ndim > 1 else 0 * weight
        assert ((packed[name] - weight).abs() <= bound).all()
        assert weight.ndim < 2 or not torch.equal(packed[name], weight)


def test_one_changed_bit_of_a_file_is_refused(tmp_path):
    whole = bytearray(nets.zoo.path("cifar10/resnet20-seed0").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "net.safetensors").write_bytes(whole)
    with pytest.raises(ValueError, match="damaged"):
        nets.load(tmp_path / "net.safetensors")


def test_torchattacks_takes_the_loaded_network_unchanged(images):
    torchattacks = pytest.importorskip("torchattacks")
    model = nets.load("cifar10/resnet20-seed0")
    n = 20
    x, y = images.x[:n].contiguous(), images.y[:n]
    attack = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=3, random_start=False)
    theirs = attack(x, y)
    ours = nets.attacks.ifgsm(model, x, y, eps=8 / 255, step_size=2 / 255, n_iter=3)
    assert (theirs - x).abs().max() <= 8 / 255 + 1e-6
    with torch.no_grad():
        right = [(model(z).argmax(1) == y) for z in (x, theirs, ours)]
    # The same attack by two implementations; a sign of a gradient at rounding level may turn.
    assert (right[1] != right[2]).sum() <= 1
    assert right[1].sum() < right[0].sum()


def test_foolbox_takes_the_loaded_network_unchanged(images):
    foolbox = pytest.importorskip("foolbox")
    model = nets.load("cifar10/resnet20-seed0")
    x, y = images.x[:20].contiguous(), images.y[:20]
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    assert foolbox.accuracy(wrapped, x, y) == pytest.approx(accuracy(model, images, 20), abs=1e-6)
    _, x_adv, deceived = foolbox.attacks.FGSM()(wrapped, x, y, epsilons=8 / 255)
    ours = nets.attacks.fgsm(model, x, y, eps=8 / 255)
    with torch.no_grad():
        assert (deceived != (model(ours).argmax(1) != y)).sum() <= 1
    assert (x_adv - x).abs().max() <= 8 / 255 + 1e-6


@pytest.mark.parametrize(("name", "device"), [(None, "cpu"), (5, "cpu"), ("cifar10/resnet20-seed0", None)])
def test_what_is_no_name_and_no_device_is_refused(name, device):
    with pytest.raises(ValueError, match=r"name_or_path must be a name|device None is not available"):
        nets.load(name, device)


@pytest.mark.parametrize("name", ["cifar10/resnet20-seed0", "cifar10/en1_resnet20-seed0"])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_gradients_with_respect_to_images_are_contiguous(name, order):
    """Other packages take views of them, `gradient.view(len(x), -1)`."""
    model, images = nets.load(name), nets.zoo.sample()
    assert images.x.is_contiguous()
    x = images.x[:3].to(memory_format=order).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x)
    assert gradient.is_contiguous() and gradient.abs().amin() >= 0 < gradient.abs().amax()
    # The same as that without the detour of the pass: images are normalised pixel by pixel.
    z = ((images.x[:3] - model.mean) / model.std).requires_grad_()
    if not name.startswith("cifar10/en"):
        (expected,) = torch.autograd.grad(model.net(z).logsumexp(1).sum(), z)
        assert torch.allclose(gradient, expected / model.std, rtol=1e-4, atol=1e-6 * gradient.abs().max().item())


@pytest.mark.parametrize("attack", ["PGD", "PGDL2", "FAB"])
def test_attacks_of_torchattacks_take_a_loaded_network(attack):
    torchattacks = pytest.importorskip("torchattacks")
    model, images = nets.load("cifar10/resnet20-natural-seed0"), nets.zoo.sample()
    x, y = images.x[:4], images.y[:4]
    x_adv = getattr(torchattacks, attack)(model, steps=2)(x, y)
    assert x_adv.shape == x.shape and (model(x_adv).argmax(1) != y).any()


@pytest.mark.parametrize("attack", ["LinfPGD", "L2PGD", "L2DeepFoolAttack"])
def test_attacks_of_foolbox_take_a_loaded_network(attack):
    foolbox = pytest.importorskip("foolbox")
    model, images = nets.load("cifar10/resnet20-natural-seed0"), nets.zoo.sample()
    x, y = images.x[:4], images.y[:4]
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    x_adv, *_ = getattr(foolbox.attacks, attack)(steps=3)(wrapped, x, y, epsilons=0.5)
    assert x_adv.shape == x.shape and (model(x_adv).argmax(1) != y).any()
