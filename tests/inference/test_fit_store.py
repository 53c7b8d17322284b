"""Fits on disk: what comes back is what was written, and what is not fits nowhere is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_models import Y, conjugate_normal, exact_fit, fitted, standard
from safetensors.torch import save_file
from torch import nn
from torch.distributions import Normal

from jensen.errors import CheckpointError, DataError
from jensen.families import Gamma
from jensen.inference.fit_store import FIT_FILE, is_fit, load_fit
from jensen.inference.model import Model
from jensen.inference.supports import bernoulli, positive, real
from jensen.inference.variational import amortised, blocks, flow, full_rank, low_rank, mean_field
from jensen.inference.variational.base import Family


def everything() -> Model:
    """Latents of several kinds, none of which reads data."""
    return standard(
        {"mu": real(), "tau": positive(), "theta": real(3), "on": bernoulli(2)},
        lambda z: Normal(0.0, 1.0).log_prob(z.mu) - z.tau + Normal(z.mu, 1.0).log_prob(z.theta).sum() + z.on.sum(),
    )


def moved(family: Callable[[Model], Family]) -> Callable[[Model], Family]:
    """The family with parameters that are not those of its start."""

    def make(model: Model) -> Family:
        made = family(model)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
        return made

    return make


@pytest.mark.parametrize(
    "family",
    [mean_field, lambda m: mean_field(m, {"tau": Gamma}), full_rank, low_rank(2), blocks([["mu", "theta"]])],
    ids=["mean field", "Gamma", "full rank", "low rank", "blocks"],
)
def test_a_fit_comes_back_as_it_was(family: Callable[[Model], Family], tmp_path: Path) -> None:
    model = everything()
    ended: dict[str, Any] = {"starts": [(-10.0, True), (-12.5, False)], "notes": ["a remark"], "advice": "none"}
    ended |= {"linear_response": torch.eye(5, dtype=torch.float64), "monte_carlo": torch.full((5,), 0.01).double()}
    result = fitted(model, family=moved(family), **ended)
    result.save(tmp_path / "fit")
    loaded = load_fit(tmp_path / "fit", model)
    for name, draws in result.sample(50, seed=4).items():
        assert torch.equal(draws, loaded.sample(50, seed=4)[name])
    assert str(loaded.summary()) == str(result.summary())
    assert (loaded.elbo, loaded.starts, loaded.reason) == (result.elbo, result.starts, result.reason)
    assert loaded.ascent.trace == result.ascent.trace
    assert loaded.pareto_k.value == result.pareto_k.value
    torch.testing.assert_close(loaded.ascent.flat, result.ascent.flat)
    assert is_fit(tmp_path / "fit")
    assert "tau" in (tmp_path / "fit" / "config.yaml").read_text()


def test_a_loaded_fit_can_be_sampled_without_its_data(tmp_path: Path) -> None:
    result, model = exact_fit(), conjugate_normal()
    result.save(tmp_path)
    loaded = load_fit(tmp_path, model)
    assert torch.equal(loaded.sample(9)["mu"], result.sample(9)["mu"])
    assert str(loaded.summary()) == str(result.summary())  # k-hat is in the file
    assert float(loaded.expectation(lambda z: z.mu).mean) == float(result.expectation(lambda z: z.mu).mean)
    for needing in (loaded.log_likelihood, loaded.posterior_predictive):
        with pytest.raises(ValueError, match=r"needs the data.*load_fit\(folder, model, data\)"):
            needing(3)
    whole = load_fit(tmp_path, model, {"y": Y})
    torch.testing.assert_close(whole.log_likelihood(5)["likelihood"], result.log_likelihood(5)["likelihood"])
    with pytest.raises(DataError, match="6 rows"):
        load_fit(tmp_path, model, Y[:3])


def test_learned_parameters_come_back_by_name_and_in_the_users_module(tmp_path: Path) -> None:
    net = nn.Linear(1, 1).double()

    def of(module: nn.Linear) -> Model:
        return Model({"x": real()}, lambda z, data: Normal(module(z.x[None])[0], 1.0).log_prob(z.x), parameters=module)

    fitted(of(net)).save(tmp_path / "module")
    other = nn.Linear(1, 1).double()
    load_fit(tmp_path / "module", of(other))
    assert torch.equal(other.weight, net.weight)

    def named(value: float) -> Model:
        parameters = {"centre": torch.tensor(value, dtype=torch.float64)}
        return Model({"x": real()}, lambda z, data: Normal(z.centre, 1.0).log_prob(z.x), parameters=parameters)

    fitted(named(2.5)).save(tmp_path / "named")
    assert load_fit(tmp_path / "named", named(0.0)).parameters["centre"].item() == 2.5
    with pytest.raises(CheckpointError, match="theta has parameters"):
        load_fit(tmp_path / "named", standard({"x": real()}, lambda z: -(z.x**2)))


def test_a_flow_comes_back_with_the_family_that_it_was_made_by(tmp_path: Path) -> None:
    pytest.importorskip("zuko")
    model = standard({"x": real(2)}, lambda z: Normal(0.0, 1.0).log_prob(z.x).sum())
    small = flow(1, (8,))
    result = fitted(model, family=moved(small))
    result.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"FlowFactor of x, which cannot be made.*family="):
        load_fit(tmp_path, model)
    torch.testing.assert_close(load_fit(tmp_path, model, family=small).sample(5), result.sample(5))
    with pytest.raises(CheckpointError, match=r"\['FlowFactor'\], but the family has \['DiagonalNormal'\]"):
        load_fit(tmp_path, model, family=mean_field)
    with pytest.raises(CheckpointError, match="family has parameters"):
        load_fit(tmp_path, model, family=flow(2, (8,)))


def test_an_amortised_fit_says_that_it_needs_data(tmp_path: Path) -> None:
    model = Model(
        {"z": real(plate="rows")},
        lambda z, data: Normal(0.0, 1.0).log_prob(z.z) + Normal(z.z, 1.0).log_prob(data.y),
        plates={"rows": len(Y)},
    )
    family = amortised({"z": nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 2).double())}, inputs="y")
    result = fitted(model, {"y": Y}, family=family)
    result.save(tmp_path)
    with pytest.raises(ValueError, match="amortised"):
        load_fit(tmp_path, model, family=copy.deepcopy(family)).sample(3)
    loaded = load_fit(tmp_path, model, {"y": Y}, family=family)
    torch.testing.assert_close(loaded.sample(3), result.sample(3))


# --- refused ----------------------------------------------------------------------------------------------------------


def test_another_model_is_told(tmp_path: Path) -> None:
    exact_fit().save(tmp_path)
    other = standard({"mu": positive()}, lambda z: -z.mu)
    with pytest.raises(CheckpointError, match=r"mu Real\(\).*rows.*but this one has mu GreaterThan"):
        load_fit(tmp_path, other)


def test_missing_damaged_and_foreign_files_are_told(tmp_path: Path) -> None:
    model = conjugate_normal()
    with pytest.raises(CheckpointError, match="does not exist"):
        load_fit(tmp_path / "nowhere", model)
    with pytest.raises(CheckpointError, match="holds no fit"):
        load_fit(tmp_path, model)
    assert not is_fit(tmp_path)
    exact_fit().save(tmp_path)
    content = bytearray((tmp_path / FIT_FILE).read_bytes())
    flipped = bytearray(content)
    flipped[-1] ^= 1
    for broken in (flipped, content[:-8], content[:20]):
        (tmp_path / FIT_FILE).write_bytes(bytes(broken))
        with pytest.raises(CheckpointError, match="is damaged"):
            load_fit(tmp_path, model)
    save_file({"a": torch.zeros(2)}, tmp_path / FIT_FILE)
    with pytest.raises(CheckpointError, match="no fit of Jensen"):
        load_fit(tmp_path, model)
    save_file({"a": torch.zeros(2)}, tmp_path / FIT_FILE, metadata={"format": "jensen-fit", "version": "99"})
    with pytest.raises(CheckpointError, match="newer version"):
        load_fit(tmp_path, model)
