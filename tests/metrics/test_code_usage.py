"""Counts and costs of integer codes against counts by hand."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from integer_codes import MARKOV, K, OwnCodes, Rows

from jensen.autoencoders import VAE
from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import AutoregressiveConfig, NetConfig, QuantiserConfig
from jensen.metrics import code_usage, evaluate

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
    assert rows["codes of level 2 of 2 in book 1 of 2 used"][0] == "1 of 4"
    assert rows["perplexity of codes of level 1 of 2 in book 1 of 2"][0] == f"{found.levels[0].perplexity:.1f}"
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
    assert "Only 1 of 4 codes of level 1" in warning
    assert "perplexity 1.0" in warning
    assert "revival" in warning
    # Where there are few places, no book could use more.
    assert code_usage(OwnCodes(), Rows(x[:1, :] * 0 + torch.tensor([0, 1, 0, 1, 2, 0, 1, 2]))).warnings == []


def test_a_prior_that_has_learned_nothing_is_said_in_words() -> None:
    x = torch.zeros(50, 8)
    x[:, 1::2] = 1  # neighbours differ, which the chain finds improbable
    texts = code_usage(OwnCodes(learned=True), Rows(x)).warnings
    assert any("learned prior" in text and "no better than their frequencies" in text for text in texts)
    same = torch.randint(3, (50, 1)).float().expand(50, 8)
    texts = code_usage(OwnCodes(learned=True), Rows(same.contiguous())).warnings
    assert not any("learned prior" in text for text in texts)


def tiny(quantiser: QuantiserConfig, hierarchy: int = 1) -> VQVAE:
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


def test_what_has_no_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="integer codes, which a VAE does not have"):
        code_usage(VAE((8,), 2), Rows(X))
    with pytest.raises(ValueError, match="0 examples"):
        code_usage(OwnCodes(), Rows(X[:0]))
