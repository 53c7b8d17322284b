"""The benchmark of NVAE's training step compares like with like."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.models.plain_nvae import PlainNVAE
from benchmarks.nvae_step import CASES, WAYS, agreement, our_step, plain_step

from benchmarks import nvae_step

TINY = replace(CASES[0], side=16, scales=("2x2@8", "3@16"), halvings=2, stem=2, batch=4)


def test_both_are_the_same_model() -> None:
    count = sum(p.numel() for p in nvae_step.our_model(TINY).parameters())
    assert f"ours {count:,}, plain {count:,}" in agreement(TINY)


def test_another_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nvae_step.plain_model

    def changed(case: nvae_step.Case) -> PlainNVAE:
        model = made(case)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-2
        return model

    monkeypatch.setattr(nvae_step, "plain_model", changed)
    with pytest.raises(RuntimeError, match="different models"):
        agreement(TINY)


def test_all_ways_train_alike() -> None:
    """From the same weights and noise a few steps lead to the same loss, whatever is kept and however it is laid."""
    ways = [our_step(TINY, way) for way in WAYS]
    losses = []
    for step in ways:
        torch.manual_seed(1)
        losses.append([step() for _ in range(4)])
    exact, half, again, half_again = torch.tensor(losses)
    torch.testing.assert_close(again, exact, rtol=1e-4, atol=0.0)
    torch.testing.assert_close(half, exact, rtol=0.03, atol=0.0)
    torch.testing.assert_close(half_again, exact, rtol=0.03, atol=0.0)
    assert exact[-1] < exact[0]


def test_the_plain_one_trains() -> None:
    step = plain_step(TINY)
    torch.manual_seed(1)
    losses = torch.tensor([step() for _ in range(4)])
    assert losses[-1] < losses[0]
