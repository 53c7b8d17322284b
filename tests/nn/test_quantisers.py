"""What every quantiser must do, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from jensen.config import QUANTISER_KNOBS, QuantiserConfig
from jensen.nn import (
    FiniteScalarQuantiser,
    GumbelQuantiser,
    Quantiser,
    ResidualQuantiser,
    VectorQuantiser,
    make_quantiser,
)

DIM = 6
MAKERS: dict[str, Callable[[], Quantiser]] = {
    "vector": partial(VectorQuantiser, 20, DIM),
    "vector, loss": partial(VectorQuantiser, 20, DIM, codebook="loss"),
    "vector, random": partial(VectorQuantiser, 20, DIM, initial="random", revival=0.0),
    "vector, many codes": partial(VectorQuantiser, 150, DIM, codebook="loss", initial="random"),
    "vector, projection": partial(VectorQuantiser, 20, DIM, projection=3),
    "vector, cosine": partial(VectorQuantiser, 20, DIM, cosine=True),
    "vector, cosine, loss": partial(VectorQuantiser, 20, DIM, cosine=True, codebook="loss", projection=4),
    "residual": partial(ResidualQuantiser, 20, DIM, books=3),
    "residual, loss": partial(ResidualQuantiser, 20, DIM, books=2, codebook="loss", projection=4),
    "residual, cosine": partial(ResidualQuantiser, 20, DIM, books=2, cosine=True),
    "gumbel": partial(GumbelQuantiser, 20, DIM, temperature=0.7),
    "finite-scalar": partial(FiniteScalarQuantiser, (4, 3, 2), DIM),
    "finite-scalar, plain": partial(FiniteScalarQuantiser, (4, 3, 2, 5, 3, 3)),
}
GRIDS = ((7,), (3, 4), (1,), (1, 1))


@pytest.fixture(params=MAKERS, ids=str)
def quantiser(request: pytest.FixtureRequest) -> Quantiser:
    """In training mode, after some batches."""
    made = MAKERS[request.param]()
    for _ in range(3):
        made(torch.randn(8, DIM, 3, 4))
    return made


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_shapes_and_values(quantiser: Quantiser, grid: tuple[int, ...]) -> None:
    quantiser.eval()
    found = quantiser(torch.randn(5, DIM, *grid))
    assert found.codes.shape == (5, quantiser.books, *grid)
    assert found.codes.dtype == torch.int64
    assert 0 <= found.codes.min() <= found.codes.max() < quantiser.levels
    assert found.embedding.shape == (5, DIM, *grid)
    assert torch.equal(found.embedding, quantiser.embed(found.codes))
    assert all(penalty.shape == () and penalty >= 0 for penalty in found.penalties.values())
    assert quantiser.stochastic == (found.log_q is not None)
    if found.log_q is not None:
        assert found.log_q.shape == (5, quantiser.books, *grid, quantiser.levels)
        torch.testing.assert_close(found.log_q.logsumexp(-1), torch.zeros(5, quantiser.books, *grid))


def test_places_are_treated_alike_whatever_the_grid_and_the_memory_format(quantiser: Quantiser) -> None:
    quantiser.eval()
    features = torch.randn(5, DIM, 3, 4)
    layouts = (features, features.contiguous(memory_format=torch.channels_last), features.flatten(2))
    found = []
    for layout in layouts:
        torch.manual_seed(1)
        found.append(quantiser(layout))
    for other in found[1:]:
        assert torch.equal(other.codes.flatten(2), found[0].codes.flatten(2))
        torch.testing.assert_close(other.embedding.flatten(2), found[0].embedding.flatten(2))
        torch.testing.assert_close(dict(other.penalties), dict(found[0].penalties))


def test_in_training_the_embedding_is_that_before_the_step_of_the_averages(quantiser: Quantiser) -> None:
    """Revival aside, which comes first."""
    for module in quantiser.modules():
        if hasattr(module, "revival"):
            module.revival = 0.0
    kept = state_of(quantiser)
    found = quantiser(torch.randn(4, DIM, 3, 4))
    quantiser.load_state_dict(kept)
    assert torch.equal(found.embedding, quantiser.embed(found.codes))


def test_every_parameter_gets_a_gradient_and_every_codebook_is_learned(quantiser: Quantiser) -> None:
    before = state_of(quantiser)
    features = torch.randn(8, DIM, 3, 4, requires_grad=True)
    found = quantiser(features)
    (found.embedding.square().sum() + sum(found.penalties.values())).backward()
    assert features.grad is not None
    assert (features.grad != 0).any(dim=(0, 2, 3)).all()
    for name, parameter in quantiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name
    for name, value in quantiser.named_buffers():
        if name in before and not name.endswith("started"):
            assert not torch.equal(value, before[name]), name


def test_evaluation_changes_nothing(quantiser: Quantiser) -> None:
    quantiser.eval()
    before = state_of(quantiser)
    features = torch.randn(4, DIM, 5)
    first, second = quantiser(features), quantiser(features)
    assert torch.equal(first.codes, second.codes) != quantiser.stochastic
    for name, value in quantiser.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("steps", [0, 2])
def test_training_goes_on_from_a_saved_state_bit_for_bit(name: str, steps: int) -> None:
    made = MAKERS[name]()
    batches = torch.randn(steps + 3, 8, DIM, 3, 4)
    for batch in batches[:steps]:
        made(batch)
    saved, noise = state_of(made), torch.get_rng_state()
    ends = []
    for _ in range(2):
        other = MAKERS[name]()
        other(torch.randn(8, DIM, 2))  # whatever it has learned is overwritten
        other.load_state_dict(saved)
        torch.set_rng_state(noise)
        ends.append([other(batch).codes for batch in batches[steps:]] + list(other.state_dict().values()))
    torch.set_rng_state(noise)
    ends.append([made(batch).codes for batch in batches[steps:]] + list(made.state_dict().values()))
    assert all(torch.equal(a, b) for end in ends[1:] for a, b in zip(ends[0], end, strict=True))


def test_terms_are_sums_over_places_and_means_over_the_batch(quantiser: Quantiser) -> None:
    quantiser.eval()
    features = torch.randn(4, DIM, 3, 4)
    once = quantiser(features)
    if quantiser.stochastic:  # its draws differ from one call to the next, and its price is the KL
        assert not once.penalties
        return
    twice = quantiser(torch.cat([features, features]))
    larger = quantiser(torch.cat([features, features], 3))
    assert torch.equal(twice.codes, torch.cat([once.codes, once.codes]))
    for name, value in once.penalties.items():
        torch.testing.assert_close(twice.penalties[name], value)
        torch.testing.assert_close(larger.penalties[name], 2 * value)


def test_under_autocast_everything_is_in_float32(quantiser: Quantiser) -> None:
    quantiser.eval()
    features = torch.randn(4, DIM, 3, 4).bfloat16()
    torch.manual_seed(1)
    plain = quantiser(features.float())
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantiser(features)
        embedding = quantiser.embed(found.codes)
    assert found.embedding.dtype == torch.float32
    assert torch.equal(found.codes, plain.codes)
    assert torch.equal(found.embedding, plain.embedding)
    assert torch.equal(found.embedding, embedding)
    assert dict(found.penalties) == dict(plain.penalties)


def test_features_of_half_precision_get_their_gradient_in_it(quantiser: Quantiser) -> None:
    features = torch.randn(4, DIM, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantiser(features)
        (found.embedding.sum() + sum(found.penalties.values())).backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16
    assert features.grad.isfinite().all()


def test_in_double_precision(quantiser: Quantiser) -> None:
    quantiser.double()
    found = quantiser(torch.randn(4, DIM, 3, 4, dtype=torch.float64))
    assert found.embedding.dtype == torch.float64


@pytest.mark.parametrize(
    "features",
    [torch.zeros(3, DIM, 2, 2), torch.ones(3, DIM, 4), torch.randn(1, DIM, 1), 1e-30 * torch.randn(2, DIM, 3)],
    ids=["zeros", "constant", "one place", "tiny"],
)
@pytest.mark.parametrize("name", MAKERS)
def test_poor_features_make_no_nan(name: str, features: Tensor) -> None:
    made = MAKERS[name]()
    features = features.clone().requires_grad_()
    for _ in range(4):
        found = made(features)
        (found.embedding.square().sum() + sum(found.penalties.values())).backward()
        assert found.embedding.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert all(value.isfinite().all() for value in made.state_dict().values())
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (lambda q: torch.full((2, q.books, 3), q.levels), "codes should be in 0 .. "),
        (lambda q: torch.full((2, q.books, 3), -1), "codes should be in 0 .. "),
        (lambda q: torch.zeros(2, q.books + 1, 3, dtype=torch.int64), "codes should have shape"),
        (lambda q: torch.zeros(2, q.books, dtype=torch.int64), "codes should have shape"),
        (lambda q: torch.zeros(2, q.books, 3), "codes should be integers, got torch.float32"),
    ],
    ids=["too large", "negative", "books", "no grid", "floats"],
)
def test_codes_that_there_are_not_are_refused(
    quantiser: Quantiser, codes: Callable[[Quantiser], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantiser.embed(codes(quantiser))


def test_all_codes_have_an_embedding(quantiser: Quantiser) -> None:
    codes = torch.arange(quantiser.levels).expand(2, quantiser.books, -1)
    embedding = quantiser.embed(codes)
    assert embedding.isfinite().all()
    assert torch.equal(quantiser.embed(codes.to(torch.int16)), embedding)


@pytest.mark.parametrize("shape", [(2, DIM), (2, DIM + 1, 3), (2, DIM, 2, 2, 2), (0, DIM, 3)], ids=str)
def test_features_of_another_shape_are_refused(quantiser: Quantiser, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="features should have shape"):
        quantiser(torch.zeros(shape))


@pytest.mark.parametrize("kind", QUANTISER_KNOBS)
def test_made_from_a_configuration(kind: str) -> None:
    config = QuantiserConfig.model_validate({"kind": kind, "dim": 12})
    made = make_quantiser(config)
    assert made.dim == 12
    assert made.levels == (1000 if kind == "finite-scalar" else 512)
    assert made.books == (4 if kind == "residual" else 1)
    assert made(torch.randn(2, 12, 3)).embedding.shape == (2, 12, 3)


def test_every_knob_arrives() -> None:
    given = {"codes": 7, "codebook": "loss", "commitment": 0.5, "initial": "random", "revival": 0.2, "cosine": True}
    given |= {"projection": 3, "books": 2}
    made = make_quantiser(QuantiserConfig.model_validate({"kind": "residual", "dim": 5, **given}))
    assert isinstance(made, ResidualQuantiser)
    assert (made.levels, made.books, made.commitment) == (7, 2, 0.5)
    described = "levels=7, dim=3, learned='loss', decay=0.99, initial='random', revival=0.2, cosine=True"
    assert [book.extra_repr() for book in made.codebooks] == [described] * 2
    slow = make_quantiser(QuantiserConfig(kind="vector", decay=0.9))
    assert isinstance(slow, VectorQuantiser)
    assert slow.codebook.decay == 0.9
    warm = make_quantiser(QuantiserConfig(kind="gumbel", temperature=2.0, codes=9))
    assert isinstance(warm, GumbelQuantiser)
    assert (warm.levels, warm.temperature) == (9, 2.0)


@pytest.mark.parametrize(
    "make",
    [
        partial(VectorQuantiser, 1, 4),
        partial(VectorQuantiser, 8, 0),
        partial(VectorQuantiser, 8, 4, commitment=-1.0),
        partial(VectorQuantiser, 8, 4, projection=0),
        partial(ResidualQuantiser, 8, 4, books=0),
        partial(GumbelQuantiser, 8, 4, temperature=0.0),
        partial(FiniteScalarQuantiser, (4, 1), 4),
        partial(FiniteScalarQuantiser, (), 4),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Quantiser]) -> None:
    with pytest.raises(ValueError, match=r"got|needs"):
        make()
