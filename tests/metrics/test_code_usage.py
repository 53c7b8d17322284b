"""Counts and costs of integer codes against counts by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from integer_codes import MARKOV, K, OwnCodes, Rows
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import AutoregressiveConfig, NetConfig, QuantiserConfig
from jensen.data import Batch
from jensen.metrics import code_usage, evaluate
from jensen.metrics.codes import _unbiased, values_described
from jensen.nn.quantiser import Quantiser, make_quantiser

# Level 1: places 0 and 1. Level 2: book 1 at places 2 to 4, book 2 at 5 to 7.
X = torch.tensor([[0, 1, 2, 2, 2, 0, 1, 2], [0, 0, 2, 2, 2, 1, 1, 3], [0, 3, 2, 2, 2, 3, 0, 2]]).float()


def test_counts_by_hand() -> None:
    found = code_usage(OwnCodes(), Rows(X))
    assert [book.counts for book in found.levels] == [[4, 1, 0, 1], [0, 0, 9, 0], [2, 3, 2, 2]]
    assert [(book.level, book.book, book.grid) for book in found.levels] == [(1, 1, (2,)), (2, 1, (3,)), (2, 2, (3,))]
    assert [book.used for book in found.levels] == [3, 1, 4]
    assert [book.share for book in found.levels] == [0.75, 0.25, 1.0]
    entropies = [math.log(6) - 4 / 6 * math.log(4), 0.0, math.log(9) - (6 * math.log(2) + 3 * math.log(3)) / 9]
    assert [book.perplexity for book in found.levels] == pytest.approx([math.exp(each) for each in entropies])
    assert [book.nats_uniform for book in found.levels] == pytest.approx([2 * math.log(4), *[3 * math.log(4)] * 2])
    empirical = 2 * entropies[0] + 3 * entropies[1] + 3 * entropies[2]
    assert found.nats_empirical == pytest.approx(empirical)
    assert found.bits_per_dim_empirical == pytest.approx(empirical / 8 / math.log(2))
    assert found.bits_per_dim_uniform == pytest.approx(2.0)  # a code of 2 bits for each of 8 values
    assert (found.examples, found.dims, found.code_levels) == (3, 8, K)
    assert (found.nats_learned, found.bits_per_dim_learned, found.levels[0].nats_learned) == (None, None, None)


def test_cost_under_a_learned_prior_by_hand() -> None:
    found = code_usage(OwnCodes(learned=True), Rows(X))
    chains = {0: [[0, 1], [0, 0], [0, 3]], 1: [[2, 2, 2]] * 3, 2: [[0, 1, 2], [1, 1, 3], [3, 0, 2]]}
    for place, rows in chains.items():
        steps = sum(math.log(MARKOV[a, b]) for row in rows for a, b in pairwise(row))
        assert found.levels[place].nats_learned == pytest.approx((3 * math.log(4) - steps) / 3, rel=1e-6)
    assert found.nats_learned == pytest.approx(sum(book.nats_learned or 0 for book in found.levels))
    assert found.bits_per_dim_learned == pytest.approx((found.nats_learned or 0) / 8 / math.log(2))


def test_batches_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randint(K, (1203, 8)).float()
    calls: list[tuple[int, int]] = []
    model = OwnCodes(learned=True).train()
    found = code_usage(model, Rows(x), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(500, 1203), (1000, 1203), (1203, 1203)]
    assert found.levels[2].counts == torch.bincount(x[:, 5:].long().flatten(), minlength=K).tolist()
    half = [code_usage(model, Rows(part)).nats_learned or 0 for part in (x[:600], x[600:])]
    assert found.nats_learned == pytest.approx((half[0] * 600 + half[1] * 603) / 1203, rel=1e-6)
    assert model.training


def test_table_and_dictionary_hold_the_numbers() -> None:
    found = code_usage(OwnCodes(learned=True), Rows(X))
    rows = {name: (value, meaning) for name, value, meaning in found.table()}
    assert rows["bottom codes in book 1 of 2 used"][0] == "1 of 4"
    assert rows["perplexity of top codes in book 1 of 2"][0] == f"{found.levels[0].perplexity:.1f}"
    assert rows["code, uniform"][0] == "2.0000"
    assert rows["code, frequencies"][0] == f"{found.bits_per_dim_empirical:.4f}"
    assert f"({found.nats_learned:.2f} nats)" in rows["code, learned prior"][1]
    assert "code, learned prior" not in {row[0] for row in code_usage(OwnCodes(), Rows(X)).table()}
    back = json.loads(json.dumps(found.to_dict()))
    assert back["levels"][1]["counts"] == [0, 0, 9, 0]
    assert back["bits_per_dim_learned"] == found.bits_per_dim_learned


def test_dead_codes_are_said_in_words() -> None:
    x = torch.randint(2, (200, 8)).float()
    x[:, :2] = 3  # level 1: one code of four; the books of level 2: two of four, which is half
    (warning,) = code_usage(OwnCodes(), Rows(x)).warnings
    assert "Only 1 of 4 top codes in book 1 of 2" in warning
    assert "perplexity 1.0" in warning
    assert "codes have died in training" in warning
    # Where there are few places, no book could use more.
    assert code_usage(OwnCodes(), Rows(x[:1, :] * 0 + torch.tensor([0, 1, 0, 1, 2, 0, 1, 2]))).warnings == []


class ManyCodes(OwnCodes):
    code_levels = 512


def test_few_places_cannot_use_many_codes() -> None:
    """Of 512 equally frequent codes 6 places would use 5.97, and 9 places 8.93: half of these is enough."""
    different = torch.arange(24).view(3, 8).float()
    assert code_usage(ManyCodes(), Rows(different)).warnings == []
    enough = different.clone()
    enough[:, :2] = torch.tensor([[7, 8], [9, 7], [8, 9]])  # 3 codes in 6 places
    assert code_usage(ManyCodes(), Rows(enough)).warnings == []
    enough[2, 1] = enough[1, 0] = 8  # 2 codes
    (warning,) = code_usage(ManyCodes(), Rows(enough)).warnings
    assert warning.startswith("Only 2 of 512 ")


@pytest.mark.parametrize(
    ("quantiser", "said"),
    [
        (QuantiserConfig(kind="gumbel", codes=8, dim=8), "temperature"),
        (QuantiserConfig(kind="finite-scalar", values=(3, 4), dim=8), "fewer values"),
        (QuantiserConfig(kind="vector", codes=8, dim=8, initial="random"), "k-means"),
        (QuantiserConfig(kind="residual", codes=8, books=1, dim=8, revival=0.0), "revival"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_dead_codes_of_a_quantiser_in_its_words(quantiser: QuantiserConfig, said: str, own: bool) -> None:
    model = tiny(make_quantiser(quantiser) if own else quantiser)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()  # all features are the same
        for name, parameter in model.quantiser.named_parameters():
            if "logits" in name and parameter.ndim == 1:
                parameter[0] = 99.0
    (warning,) = code_usage(model, Rows(torch.rand(40, 1, 8, 8).round(), levels=2)).warnings
    assert warning.startswith("Only 1 of")
    assert said in warning


def test_a_prior_that_has_learned_nothing_is_said_in_words() -> None:
    x = torch.zeros(50, 8)
    x[:, 1::2] = 1  # neighbours differ, which the chain finds improbable
    texts = code_usage(OwnCodes(learned=True), Rows(x)).warnings
    assert any("learned prior" in text and "no better than their frequencies" in text for text in texts)
    same = torch.randint(3, (50, 1)).float().expand(50, 8)
    texts = code_usage(OwnCodes(learned=True), Rows(same.contiguous())).warnings
    assert not any("learned prior" in text for text in texts)


def test_what_a_prior_is_told_is_said() -> None:
    label = torch.arange(30) % 3
    plain = Rows(torch.rand(30, 1, 8, 8).round(), label, levels=2)
    split = replace(plain, condition=F.one_hot(label, 3).float())
    model = tiny(QuantiserConfig(codes=8, dim=8, initial="random"))
    small = AutoregressiveConfig(width=8, depth=2)
    for told in (None, (3,)):
        prior = CodePrior(model.code_shapes, model.code_levels, small, condition_shape=told)
        for parameter in prior.parameters():
            torch.nn.init.normal_(parameter, std=2.0)  # it knows nothing, and is sure
        model.attach_prior(prior)
        found = code_usage(model, plain if told is None else split)
        (warning,) = [text for text in found.warnings if "learned prior" in text]
        meaning = {name: row for name, _, row in found.table()}["code, learned prior"]
        assert found.conditional == ("not told the condition" in warning) == ("and the condition" in meaning)
        assert found.conditional == (told is not None)
        assert [note.startswith("The learned prior is told the condition c") for note in found.notes] == [True] * (
            told is not None
        )
        assert found.to_dict()["notes"] == found.notes
    own = VQVAE((1, 8, 8), net=NetConfig(kind="conv", width=8, depth=1), levels=2, condition_shape=(3,))
    found = code_usage(own, split)
    assert not found.conditional
    (note,) = found.notes
    assert note.startswith("Encoder and decoder are told the condition c")


def tiny(quantiser: QuantiserConfig | Quantiser, hierarchy: int = 1) -> VQVAE:
    return VQVAE(
        (1, 8, 8),
        hierarchy=hierarchy,  # type: ignore[arg-type]
        quantiser=quantiser,
        net=NetConfig(kind="conv", width=8, depth=1),
        levels=2,
    )


@pytest.mark.parametrize(
    "quantiser",
    [
        QuantiserConfig(kind="vector", codes=16, dim=8, initial="random"),
        QuantiserConfig(kind="residual", codes=8, books=2, dim=8, initial="random"),
        QuantiserConfig(kind="finite-scalar", values=(3, 4), dim=8),
    ],
)
@pytest.mark.parametrize("hierarchy", [1, 2])
def test_codes_of_a_vqvae_are_those_that_it_encodes(quantiser: QuantiserConfig, hierarchy: int) -> None:
    model = tiny(quantiser, hierarchy)
    x = torch.rand(40, 1, 8, 8).round()
    found = code_usage(model, Rows(x, levels=2))
    grids = model.eval().grids(model.encode(x))
    own = [grid[:, book] for grid in grids for book in range(grid.shape[1])]
    for book, codes in zip(found.levels, own, strict=True):
        assert book.counts == torch.bincount(codes.flatten(), minlength=model.code_levels).tolist()
    assert found.nats_uniform == pytest.approx(model.latent * math.log(model.code_levels))
    assert found.nats_uniform == pytest.approx(evaluate(model, Rows(x, levels=2)).rate, rel=1e-5)


def test_learned_cost_of_a_vqvae_is_the_rate_of_its_bound() -> None:
    model = tiny(QuantiserConfig(kind="vector", codes=16, dim=8, initial="random"), hierarchy=2)
    small = AutoregressiveConfig(width=8, depth=2)
    model.attach_prior(CodePrior(model.code_shapes, model.code_levels, small))
    x = torch.rand(30, 1, 8, 8).round()
    found = code_usage(model, Rows(x, levels=2))
    assert model.code_prior is not None
    with torch.no_grad():
        nats = -model.code_prior.log_prob(model.eval().encode(x)).sum(1).mean().item()
    assert found.nats_learned == pytest.approx(nats, rel=1e-5)
    assert found.nats_learned == pytest.approx(evaluate(model, Rows(x, levels=2)).rate, rel=1e-5)


def test_a_draw_of_a_gumbel_quantiser_with_a_seed() -> None:
    model = tiny(QuantiserConfig(kind="gumbel", codes=8, dim=8))
    split = Rows(torch.rand(40, 1, 8, 8).round(), levels=2)
    before = torch.get_rng_state()
    first = code_usage(model, split, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert code_usage(model, split, seed=1) == first
    assert code_usage(model, split, seed=2).levels[0].counts != first.levels[0].counts
    assert sum(first.levels[0].counts) == 40 * model.latent


@dataclass
class Half(Rows):
    """Of which a model is told the left half, and is to predict the right one."""

    def batch(self, index: Tensor) -> Batch:
        hidden = torch.ones(1, 1, 8, 8)
        hidden[..., :4] = 0
        return super().batch(index)._replace(mask=hidden)


@dataclass
class OtherTarget(Rows):
    """Of which a model is to predict a property."""

    target: Tensor | None = None

    def batch(self, index: Tensor) -> Batch:
        assert self.target is not None
        return super().batch(index)._replace(target=self.target[index])


def test_bits_per_dimension_are_those_of_the_bound() -> None:
    model = tiny(QuantiserConfig(codes=16, dim=8, initial="random"))
    x = torch.rand(40, 1, 8, 8).round()
    for split, dims in ((Rows(x, levels=2), 64), (Half(x, levels=2), 32)):
        found, bound = code_usage(model, split), evaluate(model, split)
        assert found.dims == bound.dims == dims
        assert bound.rate is not None
        assert found.bits_per_dim_uniform == pytest.approx(bound.rate / math.log(2) / dims)
        assert found.bits_per_dim_uniform == pytest.approx(4 * model.latent / dims)
    assert values_described((1, 8, 8), torch.zeros(1, 1, 8, 8)) is None


def test_where_another_thing_is_decoded_a_code_has_bits_but_no_dimensions() -> None:
    x = torch.rand(40, 1, 8, 8).round()
    for shape in ((1,), (1, 8, 8)):  # even a property that looks like a datum
        net = NetConfig(kind="conv", width=8, depth=1)
        quantiser = QuantiserConfig(codes=16, dim=8, initial="random")
        model = VQVAE((1, 8, 8), target_shape=shape, quantiser=quantiser, net=net, likelihood="gaussian")
        found = code_usage(model, OtherTarget(x, target=torch.rand(40, *shape)))
        assert (found.dims, found.bits_per_dim_uniform, found.bits_per_dim_empirical) == (None, None, None)
        assert found.nats_uniform == pytest.approx(model.latent * math.log(16))
        rows = {name: (value, meaning) for name, value, meaning in found.table()}
        assert rows["code, uniform"][0] == f"{4 * model.latent:.2f}"
        assert rows["code, uniform"][1].startswith("bits an example (")
        assert not any("per dimension" in meaning for _, meaning in rows.values())


@pytest.mark.parametrize(
    ("given", "said", "unsaid"),
    [
        ({}, "longer training, a smaller model.quantiser.decay or fewer codes", ("revival", "k-means")),
        ({"codebook": "loss"}, "longer training or fewer codes", ("revival", "k-means", "decay")),
        ({"revival": 0.0}, "revival 0.1 puts them", ("k-means", "decay")),
        ({"initial": "random"}, "initial k-means starts them", ("revival", "decay")),
        ({"kind": "residual", "books": 2, "revival": 0.0}, "revival 0.1 puts them", ("k-means",)),
        ({"kind": "finite-scalar", "values": (3, 4)}, "The data need no more: fewer values do", ("died", "Either")),
    ],
)
def test_advice_is_what_is_not_done_already(given: dict[str, Any], said: str, unsaid: tuple[str, ...]) -> None:
    codes = {} if "values" in given else {"codes": 16}
    model = tiny(QuantiserConfig(dim=8, **codes, **given))
    found = code_usage(model, Rows(torch.zeros(40, 1, 8, 8), levels=2))
    assert found.warnings
    for warning in found.warnings:
        assert said in warning
        assert not any(word in warning for word in unsaid)


def test_a_prior_is_not_judged_by_frequencies_of_few_codes() -> None:
    x = torch.zeros(3, 8)
    x[:, 1::2] = 1  # improbable for the chain: see above
    found = code_usage(OwnCodes(learned=True), Rows(x))  # 6 codes of 4 in the first book
    assert found.nats_learned is not None
    assert found.nats_learned > found.nats_empirical
    assert not any("learned prior" in text for text in found.warnings)


def test_the_entropy_of_codes_is_corrected_for_their_number() -> None:
    """Of n uniform draws from K the entropy of their frequencies is too low by (K - 1) / 2n, to first order."""
    x = torch.randint(K, (4000, 8), generator=torch.Generator().manual_seed(0)).float()
    corrected, plain = [], []
    for rows in x.split(20):
        found = code_usage(OwnCodes(), Rows(rows))
        corrected.append(sum(map(_unbiased, found.levels)))
        plain.append(found.nats_empirical)
    truth = 8 * math.log(K)
    assert truth - sum(plain) / 200 > 0.2
    assert sum(corrected) / 200 == pytest.approx(truth, abs=0.02)


def test_a_drawn_code_has_a_price_and_not_the_rate() -> None:
    model = tiny(QuantiserConfig(kind="gumbel", codes=8, dim=8))
    split = Rows(torch.rand(40, 1, 8, 8).round(), levels=2)
    found, bound = code_usage(model, split), evaluate(model, split, samples=2)
    assert found.drawn
    assert bound.rate is not None
    assert found.nats_uniform > bound.rate + 0.1
    rows = {name: meaning for name, _, meaning in found.table()}
    assert all("price of a drawn code and not the rate" in rows[f"code, {kind}"] for kind in ("uniform", "frequencies"))
    sure = code_usage(tiny(QuantiserConfig(codes=8, dim=8)), split)
    assert not sure.drawn
    assert not any("price" in meaning for _, _, meaning in sure.table())


def test_what_has_no_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="integer codes, which a VAE does not have"):
        code_usage(VAE((8,), 2), Rows(X))
    with pytest.raises(ValueError, match="0 examples"):
        code_usage(OwnCodes(), Rows(X[:0]))
