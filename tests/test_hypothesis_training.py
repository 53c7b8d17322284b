"""Any configuration on any data: it trains, or one line says why not."""

from __future__ import annotations

import math
import warnings
from typing import Any, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from jensen.autoencoders import make_model, resolve
from jensen.autoencoders.model import NeuralModel
from jensen.config import Config
from jensen.config.names import Corruption, DataTransform, LikelihoodName, ModelKind, ObjectiveKind
from jensen.data import Data, Dataset, prepare
from jensen.errors import JensenError
from jensen.objectives import make_objective
from jensen.training import train

OFTEN = 30
"""How much likelier a plain choice is than each of the others: one in a few choices is to be no plain one."""
SCALES = {"mlp": ["2@4", "1@4"], "conv": ["1x1@4", "1@4"], "cells": ["1x1@4", "1@4"]}


def mostly(plain: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([plain] * OFTEN + [other for other in others if other != plain])


shapes = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([(1, 8, 8), (1, 1, 1), (1, 3, 5), (2, 4, 4), (3, 16, 16)]),
    st.tuples(st.integers(1, 2), st.integers(1, 9)),
    st.tuples(st.integers(1, 5)),
)


@st.composite
def values(draw: st.DrawFn, n: int, shape: tuple[int, ...]) -> tuple[Tensor, int | None]:
    """Values of each type, some of them awkward, and their levels."""
    noise = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    levels = draw(st.sampled_from([None, None, 2, 3, 256, 1000]))
    if levels is not None:
        whole = torch.randint(0, levels, (n, *shape), generator=noise)
        if draw(mostly(False, True)):
            whole = whole * 0 + draw(st.sampled_from([0, levels - 1]))
        return whole.to(torch.uint8 if levels <= 256 else torch.int32), levels
    kind = draw(st.sampled_from(["unit", "normal", "huge", "denormal", "constant", "negative", "outlier"]))
    real = torch.rand(n, *shape, generator=noise)
    made = {
        "unit": real,
        "normal": torch.randn(n, *shape, generator=noise),
        "huge": (real - 0.5) * 1e30,
        "denormal": real * 1e-42,
        "constant": torch.full_like(real, 0.25),
        "negative": -real - 3,
        "outlier": torch.where(real > 0.95, 1e30, real),
    }
    return made[kind], None


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """At most 20 examples; perhaps one class, or one example to train on."""
    train_part, valid, test = draw(mostly(12, 1, 2, 20)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    n, shape = train_part + valid + test, draw(shapes)
    held, levels = draw(values(n, shape))
    classes = draw(mostly(2, 0, 1, 3))
    parts = torch.arange(n).split([train_part, valid, test])
    return Dataset(
        "drawn",
        held,
        shape,
        levels,
        parts[0],
        parts[1],
        parts[2],
        labels=torch.arange(n) % classes if classes else None,
        class_names=tuple("abc"[:classes]),
    )


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Small in every way; a choice that is seldom right is rare."""
    kind = draw(st.sampled_from(["vae", "vae", "vae", *get_args(ModelKind)]))
    net = {
        "kind": draw(mostly("auto", "mlp", "conv", "resnet", "cells")),
        "width": 4,
        "depth": draw(mostly(1, 2)),
        "normalisation": draw(mostly("none", "batch", "group")),
    }
    model: dict[str, Any] = {"kind": kind, "net": net, "likelihood": draw(mostly("auto", *get_args(LikelihoodName)))}
    if kind in ("vae", "autoencoder", "semi-supervised"):
        model["latent"] = draw(st.integers(1, 3))
    if kind == "vae":
        model["prior"] = draw(mostly("standard", "learned", "mixture", "vampprior"))
        model["posterior"] = draw(mostly("diagonal", "full"))
        if model["prior"] in ("mixture", "vampprior"):
            model["components"] = 3
    if kind in ("hvae", "ladder", "nvae"):
        model |= {"scales": SCALES["mlp" if kind != "nvae" else "cells"], "downsampling": draw(mostly(1, 2, 4))}
    if kind == "vqvae":
        of = draw(st.sampled_from(["vq", "ema", "gumbel"]))
        model["quantiser"] = {"codes": 4, "dim": 2} | ({"kind": "gumbel"} if of == "gumbel" else {})
        model["downsampling"] = draw(mostly(2, 1, 4))
    if kind == "autoregressive" or model["likelihood"] == "autoregressive":
        model["autoregressive"] = {"width": 4, "depth": 1}
    objective: dict[str, Any] = {"kind": draw(mostly("elbo", *get_args(ObjectiveKind)))}
    if objective["kind"] == "factor":
        objective |= {"discriminator_width": 4, "discriminator_depth": 1}
    objective["samples"] = draw(mostly(2 if objective["kind"] == "iwae" else 1, 1, 3))
    told = "label" if kind == "semi-supervised" else draw(mostly(None, "label"))
    data = {
        "transform": draw(mostly("auto", *get_args(DataTransform))),
        "corruption": draw(mostly("none", *get_args(Corruption))),
        "condition": told,
        **({"labelled": 4} if kind == "semi-supervised" else {}),
    }
    training = {
        "epochs": 1,
        "batch_size": draw(mostly(4, 1, 2, 7, 64)),
        "accelerator": "cpu",
        "clip": draw(mostly(None, 1.0)),
        "ema": draw(mostly(None, 0.9)),
        "on_nan": draw(mostly("stop", "skip")),
        "lr": draw(mostly(1e-3, 1e30)),
    }
    return {"data": data, "model": model, "objective": objective, "train": training}


def require_line(error: Exception) -> None:
    """It says something, in one line."""
    assert str(error).strip(), type(error)
    assert "\n" not in str(error), error


def require_shapes(model: NeuralModel, data: Data) -> None:
    """Samples, codes and reconstructions are of the data's shapes."""
    batch = data.test.batch(torch.arange(len(data.test)))
    n = len(batch.x)
    with torch.no_grad():
        try:
            drawn = model.sample(n, condition=batch.condition)
        except TypeError as error:  # a model without a prior
            require_line(error)
        else:
            assert drawn.shape == (n, *data.target_shape)
        for name in ("encode", "reconstruct"):
            if hasattr(model, name):
                made = getattr(model, name)(batch.x, batch.condition)
                assert len(made) == n
                assert name == "encode" or made.shape[1:] == data.target_shape


def attempt(dataset: Dataset, chosen: dict[str, Any]) -> bool:
    """Whether it trained; if not, that was said in a line."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            config = Config(**chosen)
            data = prepare(dataset, config.data)
            config = resolve(config, data)
            data = prepare(dataset, config.data)
            model = make_model(config.model, data)
            objective = make_objective(config.objective, config.model.latent)
            history = train(model, data, objective, quiet=True, **dict(config.train))
        except (JensenError, ValueError) as error:
            require_line(error)
            return False
        lost = history.get("train/not_finite", [0.0])[0]
        for name, column in history.items():
            assert lost or all(map(math.isfinite, column)), (name, column)
        require_shapes(model, data)
        return True


trained: list[bool] = []


@settings(derandomize=True, deadline=None, max_examples=100, database=None, suppress_health_check=list(HealthCheck))
@given(datasets(), configs())
def test_it_trains_or_says_why_not(dataset: Dataset, chosen: dict[str, Any]) -> None:
    trained.append(attempt(dataset, chosen))


def test_much_of_that_did_train() -> None:
    if not trained:
        pytest.skip("goes with the test before")
    assert sum(trained) > len(trained) / 4


@pytest.mark.soak
@settings(derandomize=True, deadline=None, max_examples=3000, database=None, suppress_health_check=list(HealthCheck))
@given(datasets(), configs())
def test_it_trains_or_says_why_not_for_long(dataset: Dataset, chosen: dict[str, Any]) -> None:
    attempt(dataset, chosen)


def test_no_data_at_all() -> None:
    parts = torch.arange(0).split([0, 0, 0])
    with pytest.raises(JensenError, match=r"empty|no examples"):
        Dataset("none", torch.zeros(0, 3), (3,), None, *parts)
