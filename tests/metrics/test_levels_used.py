"""What units and levels say: against whole arrays, numbers by hand, and a hierarchy whose likelihood is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.autoencoders import VAE, LadderVAE
from jensen.autoencoders.hierarchy import WayDown, WayUp
from jensen.autoencoders.hvae import HierarchicalVAE
from jensen.config import NetConfig
from jensen.data import Batch
from jensen.metrics import Evaluation, evaluate, evaluation, importance, importance_weighted_log_likelihood
from jensen.metrics.levels import LevelUse, UnitTally, drawn_below, level_rows, level_uses


@dataclass
class Images:
    """Held-out data from a tensor."""

    x: Tensor
    levels: int | None = 2
    transform: str = "binarise-static"

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        return Batch(self.x[index], self.x[index], None, index)


@pytest.mark.parametrize("cuts", [(1000,), (1, 999), (300, 300, 400), (1,) * 20 + (980,)])
def test_tally_is_that_of_all_data_at_once(cuts: tuple[int, ...]) -> None:
    """Also where the mean is a million times the spread, which sums of squares would lose."""
    means = torch.randn(1000, 3, dtype=torch.float64) * torch.tensor([1.0, 0.1, 1e-3]) + torch.tensor([0.0, 5.0, 1e3])
    kl = torch.rand(1000, 3)
    tally = UnitTally()
    for rows in torch.arange(1000).split(list(cuts)):
        tally.add(kl[rows], means[rows])
    torch.testing.assert_close(tally.variance, means.var(0), rtol=1e-7, atol=0)
    torch.testing.assert_close(tally.kl, kl.double().mean(0))
    assert tally.count == 1000


def test_tally_of_one_datum_has_no_variance() -> None:
    tally = UnitTally()
    tally.add(torch.ones(1, 2), torch.ones(1, 2))
    assert tally.variance.tolist() == [0.0, 0.0]


def test_levels_by_hand() -> None:
    kl = torch.tensor([1.0, 0.005, 0.5, 0.2, 0.0, 0.011])
    top, low = level_uses(kl, ((2,), (4, 1, 1)))
    assert (top.level, top.shape, top.latent, top.active_units) == (2, (2,), 2, 1)
    assert (low.level, low.shape, low.latent, low.active_units) == (1, (4, 1, 1), 4, 3)
    assert [top.kl, low.kl] == pytest.approx([1.005, 0.711])
    names = [row[0] for row in level_rows([top, low])]
    assert names == ["level 2", "level 1 (nearest the data)"]


def test_many_levels_take_a_row_a_scale() -> None:
    shapes = [(2, 4, 4)] * 10 + [(3, 8, 8)] * 19 + [(1, 14, 14)]
    every = [LevelUse(30 - i, shape, math.prod(shape), i + 0.25, 7) for i, shape in enumerate(shapes)]
    rows = list(level_rows(every))
    assert [row[0] for row in rows] == ["levels 30 to 21", "levels 20 to 2", "level 1 (nearest the data)"]
    assert [float(row[1]) for row in rows] == [sum(range(10)) + 2.5, sum(range(10, 29)) + 4.75, 29.25]
    assert "of 4x4; 70 of 320 active" in rows[0][2]
    assert rows[1][2].endswith("each: " + " ".join(f"{i}.25" for i in range(10, 29)))


def small_ladder() -> LadderVAE:
    torch.manual_seed(0)
    return LadderVAE((1, 4, 4), ("3@8", "2@8"), net=NetConfig(kind="mlp", activation="tanh"))


def test_levels_of_a_model_are_those_of_its_output() -> None:
    model = small_ladder().eval()
    x = torch.rand(400, 1, 4, 4).round()
    found = evaluate(model, Images(x), samples=3)
    with torch.no_grad():
        output = model(x, samples=300)
    kl = [level.kl().mean((0, 1)) for level in output.levels]
    assert [use.level for use in found.levels] == [2, 1]
    for use, expected in zip(found.levels, kl, strict=True):
        assert use.kl == pytest.approx(expected.sum().item(), rel=0.05)
        assert use.active_units == int((expected > 0.01).sum())
    assert found.rate == pytest.approx(sum(use.kl for use in found.levels), rel=1e-5)
    assert found.active_units == sum(use.active_units for use in found.levels)
    assert (found.latent, len(found.kl_per_dimension)) == (5, 5)
    assert sum(found.kl_per_dimension[:2]) == pytest.approx(found.levels[0].kl)
    assert {"level 2", "level 1 (nearest the data)"} < {row[0] for row in found.table()}
    assert Evaluation(**found.to_dict()) == found  # as it is read from a file


def test_one_level_is_no_hierarchy() -> None:
    model = VAE((1, 4, 4), 3, net=NetConfig(width=8))
    assert evaluate(model, Images(torch.rand(20, 1, 4, 4).round()), samples=2).levels == []


def test_many_latents_are_not_told_one_by_one() -> None:
    model = LadderVAE((1, 16, 16), ("3@2", "300@2"), net="conv", downsampling=8)
    found = evaluate(model, Images(torch.rand(3, 1, 16, 16).round()), samples=2)
    assert (found.latent, len(found.kl_per_dimension)) == (312, 312)
    model = LadderVAE((1, 16, 16), ("9@2", "1@2"), net="conv", downsampling=1)
    found = evaluate(model, Images(torch.rand(3, 1, 16, 16).round()), samples=2)
    assert (found.latent, found.kl_per_dimension) == (9 * 256 + 64, [])
    assert [use.latent for use in found.levels] == [64, 9 * 256]


def set_head(layer: torch.nn.Module, slope: float, sigma: float) -> None:
    """N(slope z, sigma^2), of z + 50."""
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[slope], [0.0]]))
        layer.bias.copy_(torch.tensor([-50.0 * slope, 5.0 * math.atanh(math.log(sigma) / 5.0)]))


def linear_hierarchy() -> HierarchicalVAE:
    """p(z_2) = N(0, 1), p(z_1 | z_2) = N(0.8 z_2, 0.6^2), p(x | z_1) = N(z_1, 0.5^2): x is N(0, 1.25)."""
    from jensen.likelihoods import Gaussian

    model = HierarchicalVAE((1,), ("1@1", "1@1"), likelihood=Gaussian(0.5), net=NetConfig(kind="mlp", depth=1))
    for module in model.modules():  # the identity below: hidden layers add 50, so that relu lets all pass
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)

    def through(step: torch.nn.Module, last: torch.nn.Linear | None) -> None:
        first = next(module for module in step.modules() if isinstance(module, torch.nn.Linear))
        torch.nn.init.ones_(first.weight)
        torch.nn.init.constant_(first.bias, 50.0)
        if last is not None:
            torch.nn.init.ones_(last.weight)
            torch.nn.init.constant_(last.bias, -50.0)

    top, low = model.way_down.steps
    through(top, None)
    through(low, [module for module in low.modules() if isinstance(module, torch.nn.Linear)][-1])
    for step in model.way_up.steps:
        through(step, None)
    set_head(out_of(model.way_down, 0), 0.8, 0.6)
    set_head(out_of(model.way_up, 0), 0.8, math.sqrt(0.2))  # p(z_1 | x)
    set_head(out_of(model.way_up, 1), 0.8, 0.6)  # p(z_2 | z_1)
    return model


def out_of(way: WayUp | WayDown, level: int) -> torch.nn.Module:
    """The last layer of a head."""
    out = way.heads[level].out
    assert isinstance(out, torch.nn.Module)
    return out


def test_terms_of_hvae_below_the_top_are_no_kls() -> None:
    """q(z_1 | x) = N(0, 1), q(z_2 | z_1) = N(z_1, s^2), p(z_1 | z_2) = N(z_2, s^2): log s, and s^2 / 2 - log s."""
    model, s = linear_hierarchy(), 0.1
    set_head(out_of(model.way_down, 0), 1.0, s)
    set_head(out_of(model.way_up, 0), 0.0, 1.0)
    set_head(out_of(model.way_up, 1), 1.0, s)
    found = evaluate(model, Images(torch.randn(3000, 1), None, "none"), samples=2)
    top, low = (use.kl for use in found.levels)
    assert low == pytest.approx(math.log(s), abs=0.1)
    assert top == pytest.approx(s**2 / 2 - math.log(s), abs=0.1)
    assert top + low == pytest.approx(s**2 / 2, abs=0.1)
    assert found.rate == pytest.approx(top + low, abs=1e-4)
    assert [use.active_units for use in found.levels] == [1, 0]
    assert [note.split(":")[0] for note in found.notes] == [drawn_below("hvae", 2).split(":")[0]]
    assert "no KL" in found.notes[0]


def test_only_hvae_has_terms_that_are_no_kls() -> None:
    assert evaluate(small_ladder(), Images(torch.rand(5, 1, 4, 4).round()), samples=2).notes == []
    assert drawn_below("hvae", 1) == drawn_below("nvae", 2) == ""
    one = HierarchicalVAE((1, 4, 4), ("3@8",), net="mlp")
    assert evaluate(one, Images(torch.rand(5, 1, 4, 4).round()), samples=2).notes == []


def test_exact_posteriors_of_two_levels_give_the_likelihood_itself() -> None:
    """Every weight is then p(x): no noise of samples, and the ELBO has it on average."""
    model, x = linear_hierarchy(), torch.randn(2000, 1) * math.sqrt(1.25)
    exact = torch.distributions.Normal(0.0, math.sqrt(1.25)).log_prob(x)[:, 0]
    found = importance_weighted_log_likelihood(model, x, samples=4)
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=2e-3)  # 50 takes digits of float32
    whole = evaluate(model, Images(x, None, "none"), samples=4)
    assert whole.log_likelihood == pytest.approx(exact.mean().item(), abs=1e-3)
    assert whole.log_likelihood_noise is not None
    assert whole.log_likelihood_noise < 1e-3
    # By the chain rule the levels together cost KL(p(z_1 | x) || p(z_1)), since q(z_2 | z_1) = p(z_2 | z_1).
    cost = 0.5 * (0.2 + 0.64 * x.square().mean().item() - 1 - math.log(0.2))
    assert sum(use.kl for use in whole.levels) == pytest.approx(cost, rel=0.1)


@pytest.mark.parametrize("samples", [2, 7, 50])
def test_noise_of_the_samples_is_that_of_other_seeds(samples: int) -> None:
    model, images = small_ladder(), Images(torch.rand(60, 1, 4, 4).round())
    torch.nn.init.normal_(model.way_up.heads[0].out.weight, std=1.5)  # type: ignore[union-attr, arg-type]
    every = [evaluate(model, images, samples=samples, seed=seed) for seed in range(30)]
    values = torch.tensor([found.log_likelihood for found in every])
    said = torch.tensor([found.log_likelihood_noise for found in every])
    assert said.mean().item() == pytest.approx(values.std().item(), rel=0.5)
    assert f"{every[0].log_likelihood_noise:.1g}" in every[0].table()[1][2]


def test_one_sample_has_no_halves() -> None:
    found = evaluate(small_ladder(), Images(torch.rand(5, 1, 4, 4).round()), samples=1)
    assert found.log_likelihood_noise is None
    assert "seed" not in found.table()[1][2]


def test_chunks_are_as_small_as_the_nets_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LadderVAE((1, 16, 16), ("1@64", "1@64"), net="conv", downsampling=1).eval()
    x = torch.rand(2, 1, 16, 16).round()
    batch = Batch(x, x, None, torch.arange(2))
    largest = 64 * 16 * 16
    assert importance.codes_at_once(model, batch) < 2**26 / (3 * largest)
    assert importance.codes_at_once(model, batch) > 2**26 / (10 * largest)
    monkeypatch.setattr(importance, "HIDDEN_AT_ONCE", 40 * largest)
    chunks = [draws * len(x[rows]) for rows, draws, _ in importance.output_chunks(model, batch, 25)]
    assert max(chunks) <= 13
    assert sum(chunks) == 50


@pytest.mark.parametrize("codes", [2, 3, 200])
@pytest.mark.parametrize("samples", [6, 7])
def test_noise_is_of_halves_whatever_the_chunks(codes: int, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the weights of all draws; of 7 the halves are 3 and 4."""
    recorded: list[Tensor] = []
    original = importance.log_weights

    def log_weights(*given: Any) -> Tensor:
        recorded.append(original(*given))
        return recorded[-1]

    monkeypatch.setattr(importance, "log_weights", log_weights)
    monkeypatch.setattr(importance, "CODES_AT_ONCE", codes)
    model, x = VAE((1, 4, 4), 2, net=NetConfig(width=8)), torch.rand(3, 1, 4, 4).round()
    with torch.no_grad():
        found = importance.by_importance_sampling(model, Batch(x, x, None, torch.arange(3)), samples)
    assert len(recorded) == (1 if codes == 200 else 3 * math.ceil(samples / codes))
    each = torch.cat([part.T.flatten() for part in recorded]).view(3, samples).double()  # draws of the first, ...
    half = samples // 2
    first, last = each[:, :half].exp().mean(1).log(), each[:, half:].exp().mean(1).log()
    factor = math.sqrt(4 * half * (samples - half)) / samples
    assert found.noise is not None
    torch.testing.assert_close(found.noise, factor * (first - last) / 2, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.bound, each.exp().mean(1).log(), rtol=1e-9, atol=1e-12)


def test_noise_of_a_mean_over_data(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Tensor] = []
    original = importance.by_importance_sampling

    def sampled(*given: Any) -> importance.Weighted:
        weighted = original(*given)
        assert weighted.noise is not None
        recorded.append(weighted.noise)
        return weighted

    monkeypatch.setattr(evaluation, "by_importance_sampling", sampled)
    found = evaluate(small_ladder(), Images(torch.rand(9, 1, 4, 4).round()), samples=7)
    every = torch.cat(recorded)
    assert found.log_likelihood_noise == pytest.approx(every.square().sum().sqrt().item() / 9, rel=1e-9)


def with_batch_norm() -> LadderVAE:
    torch.manual_seed(0)
    net = NetConfig(kind="mlp", normalisation="batch")
    return LadderVAE((1, 4, 4), ("3@8", "2@8"), net=net).train()


def test_the_probe_of_memory_leaves_modes_and_statistics() -> None:
    model, x = with_batch_norm(), torch.rand(6, 1, 4, 4).round()
    model.way_up.steps[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    importance.codes_at_once(model, Batch(x, x, None, torch.arange(6)))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_modes_come_back_where_the_probe_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = with_batch_norm(), torch.rand(6, 1, 4, 4).round()
    monkeypatch.setattr(model, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        importance.codes_at_once(model, Batch(x, x, None, torch.arange(6)))
    assert all(module.training for module in model.modules())


def test_likelihood_in_training_mode_counts_what_it_is_given_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(6, 1, 4, 4).round()

    def found() -> tuple[Tensor, dict[str, Tensor]]:
        model = with_batch_norm()
        return importance_weighted_log_likelihood(model, x, samples=4), model.state_dict()

    value, state = found()
    monkeypatch.setattr(importance, "_hidden_numbers", lambda *_: 1)
    expected, without = found()
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    assert {int(count) for name, count in state.items() if name.endswith("num_batches_tracked")} == {1}
    assert all(torch.equal(value, without[name]) for name, value in state.items())


def test_numbers_inside_the_nets_by_hand() -> None:
    """Features of each step up, eight of each latent, and three times the largest layer, p(x | z)."""
    model = LadderVAE((1, 4, 4), ("3@8", "2@5"), net=NetConfig(kind="mlp", activation="tanh"))
    assert importance._hidden_numbers(model, torch.rand(1, 1, 4, 4), None) == (8 + 5) + 8 * (3 + 2) + 3 * 16
