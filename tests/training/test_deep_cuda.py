"""Deep VAEs on a GPU: the same numbers as on the CPU, and training in bf16 without a NaN."""

from __future__ import annotations

import math

import pytest
import torch

from jensen.autoencoders import NVAE, DeepVAE, HierarchicalVAE, LadderVAE
from jensen.config import NetConfig, Schedule
from jensen.data import load_data
from jensen.objectives import Balanced
from jensen.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def deep(kind: type[DeepVAE], net: str) -> DeepVAE:
    config = NetConfig(kind=net, normalisation="none" if net == "cells" else "batch", depth=1)
    own = {} if net == "mlp" else {"downsampling": 2, "stem": 1}
    return kind((1, 8, 8), ("2@16", "2@16"), net=config, spectral=1e-2, **own)


@pytest.mark.parametrize("net", ["mlp", "conv", "cells"])
@pytest.mark.parametrize("kind", [HierarchicalVAE, LadderVAE, NVAE])
def test_the_same_on_both_devices(kind: type[DeepVAE], net: str) -> None:
    model = deep(kind, net).eval()
    x = torch.rand(6, 1, 8, 8).round()
    with torch.no_grad():
        code, seen = model.encode(x), model.reconstruct(x)
        model.cuda()
        torch.testing.assert_close(model.encode(x.cuda()).cpu(), code, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(model.reconstruct(x.cuda()).cpu(), seen, rtol=1e-2, atol=1e-2)
        with model.readjusted(0.5, n=8, batches=2):
            assert bool(model.sample(4, 0.5).isfinite().all())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("kind", "net"), [(HierarchicalVAE, "mlp"), (LadderVAE, "conv"), (NVAE, "cells")])
def test_training_on_a_gpu(kind: type[DeepVAE], net: str, precision: str) -> None:
    data = load_data("digits", transform="binarise")
    objective = Balanced(kl_weight=Schedule(kind="linear", share=0.3))
    settings = {"optimiser": "adamax", "lr": 1e-2, "skip": 20.0, "ema": 0.99, "channels_last": True}
    history = train(
        deep(kind, net), data, objective, quiet=True, accelerator="cuda", epochs=8, precision=precision, **settings
    )
    assert all(math.isfinite(value) for values in history.values() for value in values)
    assert history["train/elbo"][-1] > history["train/elbo"][0] + 5
