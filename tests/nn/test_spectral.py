"""Largest singular values against exact decompositions; scales of batch normalisation by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from jensen.nn import spectral
from jensen.nn.spectral import SpectralNorms, batch_norm_scales

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(7, 12),
    "one output": lambda: nn.Linear(9, 1),
    "convolution": lambda: nn.Conv2d(4, 6, 3),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8),
    "in groups": lambda: nn.Conv2d(8, 4, 3, groups=2),
    "of sequences": lambda: nn.Conv1d(3, 5, 4),
    "of volumes": lambda: nn.Conv3d(2, 3, 2),
}


class Owner(nn.Module):
    """What has a net and its norms, as a model would."""

    def __init__(self, iterations: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(5, 4))
        self.spectral = SpectralNorms(self.net, iterations)

    def forward(self) -> Tensor:
        value: Tensor = self.spectral(self)
        return value


def exact(net: nn.Module) -> Tensor:
    weights = [weight.flatten(1) for name, weight in net.named_parameters() if name.endswith("weight")]
    return torch.stack([torch.linalg.svdvals(weight)[0] for weight in weights]).sum()


def converged(norms: SpectralNorms, net: nn.Module, calls: int = 300) -> Tensor:
    for _ in range(calls):
        norms(net)
    value: Tensor = norms(net)
    return value


@pytest.mark.parametrize("name", LAYERS)
def test_value_and_gradient_are_those_of_the_decomposition(name: str) -> None:
    layer = LAYERS[name]().double()
    norms = SpectralNorms(layer).double()
    value = converged(norms, layer)
    torch.testing.assert_close(value, exact(layer), rtol=1e-10, atol=0)
    (found,) = torch.autograd.grad(value, [layer.weight])
    (expected,) = torch.autograd.grad(exact(layer), [layer.weight])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_weights_of_many_shapes_add_up() -> None:
    net = nn.ModuleList([make() for make in LAYERS.values() for _ in range(3)]).double()
    norms = SpectralNorms(net).double()
    first = norms(net)
    assert 0.98 * exact(net) < first <= exact(net)
    torch.testing.assert_close(converged(norms, net), exact(net), rtol=1e-8, atol=0)
    assert len(list(norms.buffers())) == len(LAYERS)
    assert sum(len(vectors) for vectors in norms.buffers()) == 3 * len(LAYERS)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_is_that_of_its_transpose(groups: int) -> None:
    """It maps as the transpose of a convolution from its outputs to its inputs does; in groups, block by block."""
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups).double()
    blocks = layer.weight.detach().chunk(groups)
    rows = torch.cat([block.transpose(0, 1).flatten(1) for block in blocks])
    assert rows.shape == (6, 4 // groups * 9)
    found = converged(SpectralNorms(layer).double(), layer)
    torch.testing.assert_close(found, torch.linalg.svdvals(rows)[0], rtol=1e-10, atol=0)


def test_it_follows_moving_weights() -> None:
    """From one start to another in 300 steps, with one iteration a step."""
    owner, end = Owner(1), Owner()
    owner()
    start = copy.deepcopy(owner)
    for step in range(301):
        with torch.no_grad():
            for weight, first, last in zip(*(o.net.parameters() for o in (owner, start, end)), strict=True):
                weight.copy_(torch.lerp(first, last, step / 300))
        torch.testing.assert_close(owner(), exact(owner.net), rtol=0.03, atol=0)
    start.load_state_dict({**end.state_dict(), **{name: b for name, b in start.state_dict().items() if "of_" in name}})
    lost = [(1 - o() / exact(end.net)).item() for o in (owner, start)]
    assert 0 <= lost[0] < lost[1] / 5  # vectors that did not move along are worth less


def test_descent_on_it_shrinks_the_weights() -> None:
    owner = Owner()
    optimiser = torch.optim.SGD(owner.parameters(), lr=0.02)
    before = exact(owner.net).item()
    for _ in range(100):
        optimiser.zero_grad()
        owner().backward()
        optimiser.step()
    assert exact(owner.net) < 0.5 * before


def test_a_repeated_largest_value() -> None:
    layer = nn.Linear(6, 6, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(
            torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
            @ torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0, 0.5, 0.1], dtype=torch.float64))
        )
    value = SpectralNorms(layer).double()(layer)
    assert value.item() == pytest.approx(3.0)
    (gradient,) = torch.autograd.grad(value, [layer.weight])
    assert torch.linalg.matrix_norm(gradient).item() == pytest.approx(1.0)  # one of the subgradients u v^T
    assert (gradient * layer.weight).sum().item() == pytest.approx(3.0)


def test_a_zero_weight_gives_zero_and_comes_back() -> None:
    layers = nn.ModuleList([nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)])
    nn.init.zeros_(layers[0].weight)
    norms = SpectralNorms(layers)
    value = norms(layers)
    torch.testing.assert_close(value, torch.linalg.svdvals(layers[1].weight)[0], rtol=1e-4, atol=0)
    gradients = torch.autograd.grad(value, list(layers.parameters()))
    assert (gradients[0] == 0).all()
    assert torch.isfinite(gradients[1]).all()
    nn.init.normal_(layers[0].weight)
    torch.testing.assert_close(converged(norms, layers), exact(layers), rtol=1e-4, atol=0)


def test_a_weight_that_is_not_finite_shows_and_leaves_no_trace() -> None:
    layer = nn.Linear(4, 3)
    norms, good = SpectralNorms(layer), layer.weight.detach().clone()
    for bad in (float("nan"), float("inf"), 1e30):  # the square of the last is infinite
        with torch.no_grad():
            layer.weight[1, 2] = bad
            assert not torch.isfinite(norms(layer))
        assert not torch.isfinite(norms(layer))
        assert all(torch.isfinite(vectors).all() for vectors in norms.buffers())
        layer.weight.data.copy_(good)
        torch.testing.assert_close(converged(norms, layer), exact(layer), rtol=1e-4, atol=0)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_the_state_goes_on_bit_for_bit(calls: int) -> None:
    owner, resumed = Owner(1), Owner(1)
    resumed()  # of other weights
    for _ in range(calls):
        owner()
    state = owner.state_dict()
    assert not any("spectral" in name for name, _ in owner.named_parameters())
    assert sum(name.startswith("spectral.") for name in state) == 3
    resumed.load_state_dict(copy.deepcopy(state))
    for _ in range(3):
        assert owner().item() == resumed().item()
    assert all(torch.equal(a, b) for a, b in zip(owner.buffers(), resumed.buffers(), strict=True))


def test_the_first_call_starts_from_scratch_and_the_next_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 iterations before those of every call, made by no construction, as what is loaded may take their place."""
    made: list[int] = []
    iterated = spectral._iterated

    def counted(weights: Tensor, u: Tensor, iterations: int) -> Tensor:
        made.append(iterations)
        return iterated(weights, u, iterations)

    monkeypatch.setattr(spectral, "_iterated", counted)
    owner, loaded = Owner(), Owner()
    assert not made
    owner()
    loaded.load_state_dict(owner.state_dict())
    owner()
    loaded()
    groups = 3
    assert made == [44] * groups + [4] * 2 * groups


def test_it_is_made_on_the_default_device() -> None:
    with torch.device("meta"):
        owner = Owner()
    assert {buffer.device.type for buffer in owner.buffers()} == {"meta"}
    owner.to_empty(device="cpu")
    for tensor in (*owner.parameters(), *owner.buffers()):
        tensor.data.zero_()
    nn.init.normal_(owner.net[3].weight)
    torch.testing.assert_close(owner(), exact(owner.net), rtol=1e-4, atol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda owner: AveragedModel(owner).module])
def test_a_deep_copy_looks_at_its_own_weights(copied: Callable[[Owner], Owner]) -> None:
    owner = Owner()
    other = copied(owner)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3)
    torch.testing.assert_close(other(), 3 * owner())
    other().backward()
    assert all(parameter.grad is None for parameter in owner.parameters())


def test_only_training_moves_the_vectors() -> None:
    owner = Owner(1)

    def vectors() -> Tensor:
        return torch.cat([buffer.flatten() for buffer in owner.spectral.buffers()])

    before = vectors()
    value = owner.eval()()
    assert owner().item() == value.item()
    with torch.no_grad():
        assert owner.train()().item() == value.item()
    assert torch.equal(vectors(), before)
    assert owner().item() == value.item()
    assert not torch.equal(vectors(), before)


def test_two_calls_before_one_backward_pass() -> None:
    owner = Owner()
    (owner() + owner()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in owner.net[0].parameters() if parameter.ndim > 1)


def test_full_precision_whatever_the_rest_has() -> None:
    owner = Owner()
    plain = copy.deepcopy(owner)()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = owner()
    assert inside.dtype == torch.float32
    assert inside.item() == plain.item()
    rounded = owner.bfloat16()
    for _ in range(100):
        value = rounded()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact(copy.deepcopy(rounded.net).float()), rtol=1e-4, atol=0)


def test_making_it_draws_from_no_shared_generator() -> None:
    net = nn.Linear(3, 3)
    state = torch.get_rng_state()
    first, second = SpectralNorms(net), SpectralNorms(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert first(net).item() == second(net).item()
    assert repr(first) == "SpectralNorms(1 weights, iterations=4)"


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="iterations should be at least 1, got 0"):
        SpectralNorms(nn.Linear(2, 2), 0)
    with pytest.raises(ValueError, match="no convolution or linear weights"):
        SpectralNorms(nn.BatchNorm1d(3))
    norms = SpectralNorms(nn.Linear(2, 2))
    for other in (nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))):
        with pytest.raises(ValueError, match="other convolution and linear weights"):
            norms(other)


def test_scales_of_batch_normalisation_by_hand() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm2d(2), nn.BatchNorm2d(3), nn.BatchNorm1d(4, affine=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
        net[1].weight.copy_(torch.tensor([0.25, 0.125]))
        net[2].weight.copy_(torch.tensor([0.0, 1.0, 3.0]))
    value = batch_norm_scales(net)
    assert value.item() == 2.0 + 0.25 + 3.0
    value.backward()
    assert net[0].weight.grad.tolist() == [0, -1, 0]
    assert net[1].weight.grad.tolist() == [1, 0]
    assert net[2].weight.grad.tolist() == [0, 0, 1]


def test_no_scales_cost_nothing() -> None:
    assert batch_norm_scales(nn.Linear(2, 2)).item() == 0
    assert batch_norm_scales(nn.BatchNorm1d(4, affine=False)).item() == 0
