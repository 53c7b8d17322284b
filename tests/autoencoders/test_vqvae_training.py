"""Trained VQ-VAEs: patterns are recovered, digits learned, runs resumed with their codebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

import jensen
from jensen import VQVAE, Config, Elbo
from jensen.autoencoders import make_model, resolve
from jensen.config import DataConfig, NetConfig, QuantiserConfig
from jensen.data import load_data
from jensen.errors import ConfigError
from jensen.nn.spatial import Symbols
from jensen.objectives import Context
from jensen.training import fit, resume

NET = NetConfig(width=16, depth=1)


def patterns(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 8 x 8 from one of 4 patterns with a little noise, and which."""
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    four = torch.stack([rows % 4 < 2, columns % 4 < 2, (rows + columns) % 4 < 2, (rows < 4) == (columns < 4)]).float()
    which = torch.randint(4, (n,))
    return four[which, None] + 0.05 * torch.randn(n, 1, 8, 8), which


@pytest.mark.parametrize(("kind", "steps"), [("vector", 120), ("gumbel", 200)])
def test_four_patterns_take_four_codes(kind: Literal["vector", "gumbel"], steps: int) -> None:
    """One code an image: each pattern has codes of its own, which decode to it."""
    quantiser = QuantiserConfig(kind=kind, codes=16, dim=8)
    net = NetConfig(width=16, depth=1, normalisation="batch")
    model = VQVAE((1, 8, 8), downsampling=8, quantiser=quantiser, net=net, likelihood="gaussian", sigma=0.3)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    objective = Elbo()
    before = objective(model(patterns(64)[0]), Context(0, 64)).terms["distortion"]
    for step in range(steps):
        optimiser.zero_grad()
        objective(model(patterns(64)[0]), Context(step, 64)).value.backward()
        optimiser.step()
    model.eval()
    x, which = patterns(256)
    output = model(x)
    assert objective(output, Context(0, 256)).terms["distortion"] < before - 50
    decoded, codes = model.reconstruct(x), model.encode(x).flatten()
    own = [codes[which == k].unique() for k in range(4)]
    assert len(torch.cat(own).unique()) == sum(map(len, own)), "two patterns share a code"
    for k in range(4):
        assert (decoded[which == k] - x[which == k].mean(0)).abs().mean() < 0.1
    # One code a pattern is a perplexity of 4; noise may split a pattern, and draws are not always the likeliest code.
    assert 3.5 < model.report(output)["perplexity"] < 8


def config(**sections: Any) -> Config:
    model = {"kind": "vqvae", "net": {"width": 8, "depth": 1}, "quantiser": {"codes": 16, "dim": 4}}
    merged = {
        "data": {"limit": 128},
        "model": {**model, **sections.pop("model", {})},
        "train": {"epochs": 2, "batch_size": 32, "accelerator": "cpu", **sections.pop("train", {})},
    }
    return Config(**merged, **sections)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"hierarchy": 2, "downsampling": 2}, "train": {"ema": 0.9}},
        {
            "model": {"quantiser": {"kind": "gumbel", "codes": 16, "dim": 4}},
            "objective": {"kind": "beta", "samples": 2},
        },
        {
            "model": {
                "quantiser": {"kind": "residual", "codes": 8, "dim": 4},
                "net": {"width": 8, "normalisation": "batch"},
            }
        },
        {"train": {"precision": "bf16", "channels_last": True}},
    ],
    ids=["vector", "two levels", "gumbel", "residual", "bf16"],
)
def test_a_resumed_run_ends_like_one_that_never_stopped(sections: dict[str, Any], tmp_path: Path) -> None:
    """Weights and codebooks, their moving averages, the best ones, and all that was logged."""
    whole = fit(
        config(**{**sections, "train": {**sections.get("train", {}), "epochs": 3}}), tmp_path / "whole", quiet=True
    )
    fit(config(**sections), tmp_path / "parts", quiet=True)
    parts = resume(tmp_path / "parts", epochs=3, quiet=True)
    folders = [next(run.checkpoints.glob("step-*")) for run in (whole, parts)]
    for file in folders[0].glob("*.safetensors"):
        weights, others = load_file(file), load_file(folders[1] / file.name)
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights), file.name
    histories = [run.history() for run in (whole, parts)]
    for name in histories[0]:
        if "seconds" not in name and "per_second" not in name:
            assert histories[0][name] == histories[1][name], name
    assert any("perplexity" in name for name in histories[0])
    assert any("codes_used" in name for name in histories[0])
    x = whole.data().valid.batch(torch.arange(8)).x
    models = [run.model() for run in (whole, parts)]
    assert all(isinstance(model, VQVAE) for model in models)
    first, second = (model.reconstruct(x) for model in models if isinstance(model, VQVAE))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_digits() -> None:
    """A few epochs: the bound rises, and beats what the mean digit gives."""
    data = load_data(DataConfig(limit=512, transform="none"))
    model = VQVAE(
        data.shape, downsampling=2, quantiser=QuantiserConfig(codes=32, dim=8), net=NET, likelihood="gaussian-learned"
    )
    history = jensen.train(model, data, epochs=8, batch_size=32, lr=3e-3, quiet=True, accelerator="cpu")
    assert history["valid/elbo"][-1] > history["valid/elbo"][0] + 10
    assert history["valid/perplexity"][-1] > 5
    x = data.valid.batch(torch.arange(100)).x
    error = (model.reconstruct(x) - x).square().mean()
    assert error < 0.5 * (x - x.mean(0)).square().mean()


class Facts:
    """Data of symbols, (1, 16), as far as a model wants to know."""

    shape = target_shape = (1, 16)
    levels = 3
    condition_shape = None
    symbols: tuple[str, ...] = ("a", "b", "c")


class Greys(Facts):
    symbols = ()


def test_what_auto_means_for_a_vqvae() -> None:
    whole = resolve(config(), load_data(DataConfig()))
    assert (whole.model.net.kind, whole.model.likelihood, whole.data.transform) == ("conv", "bernoulli", "binarise")
    text = resolve(config(), Facts())
    assert (text.model.net.kind, text.model.likelihood, text.data.transform) == ("conv", "categorical", "none")
    model = make_model(text.model, Facts())
    assert isinstance(model, VQVAE)
    assert model.symbols
    assert isinstance(model.encoder, Symbols)
    assert model.config == text.model
    assert resolve(config(), Greys()).model.likelihood == "bernoulli"
    with pytest.raises(ConfigError, match="net mlp ends in a vector"):
        resolve(config(model={"net": {"kind": "mlp"}}), Facts())


def test_make_model_takes_every_choice() -> None:
    """What the configuration says is what the model is."""
    quantiser = {"kind": "residual", "codes": 7, "dim": 6, "books": 3}
    chosen = config(
        model={"quantiser": quantiser, "downsampling": 2, "hierarchy": 2, "likelihood": "gaussian", "sigma": 0.3}
    )
    data = load_data(DataConfig())
    model = make_model(resolve(chosen, data).model, data)
    assert isinstance(model, VQVAE)
    assert model.code_shapes == ((3, 2, 2), (3, 4, 4))
    assert model.code_levels == 7
    assert model.likelihood.sigma == 0.3
    assert model.config == resolve(chosen, data).model
