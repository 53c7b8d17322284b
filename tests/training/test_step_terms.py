"""What a step logs beside the loss, and what of it gets into the history."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from jensen.autoencoders import VAE
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.config import NetConfig
from jensen.data import Batch, Data, load_data
from jensen.objectives import Elbo
from jensen.training import train
from jensen.training.step import TrainingStep


def batch_of(label: torch.Tensor, known: torch.Tensor) -> Batch:
    x = torch.rand(len(label), 5)
    return Batch(x, x, label, torch.arange(len(x)), condition=F.one_hot(label, 3).float() * known[:, None])


def told_model(data: Data) -> SemiSupervisedVAE:
    assert data.condition_shape is not None
    torch.manual_seed(0)
    return SemiSupervisedVAE(data.shape, 2, condition_shape=data.condition_shape, net=NetConfig(kind="mlp", width=16))


def test_what_the_model_reports_is_logged_and_no_part_of_the_loss() -> None:
    torch.manual_seed(1)
    model = SemiSupervisedVAE((5,), 2, condition_shape=(3,), net=NetConfig(width=8))
    step = TrainingStep(model, Elbo(), 8)
    known = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    batch = batch_of(torch.arange(8) % 3, known)
    assert batch.label is not None
    right = (model.classify(batch.x).argmax(1) == batch.label).float()
    expected = (right * (1 - known)).sum().item() / 5

    def run(batch: Batch) -> tuple[float, dict[str, float]]:
        torch.manual_seed(2)
        value, logged = step(batch, 0)
        assert not logged.requires_grad
        return value.item(), dict(zip(step.names, logged.tolist(), strict=True))

    value, terms = run(batch)
    assert terms["accuracy"] == pytest.approx(expected)
    assert "classification" in terms
    other, changed = run(batch._replace(label=(torch.arange(8) + 1) % 3))  # another truth, told the same
    assert (other, changed["elbo"]) == (value, terms["elbo"])
    assert changed["accuracy"] != terms["accuracy"]
    without, names = run(batch._replace(label=None))
    assert without == value
    assert "accuracy" not in names
    step.eval()
    unpenalised, terms = run(batch)
    assert terms["accuracy"] == pytest.approx(expected)
    assert "classification" not in terms
    assert unpenalised == pytest.approx(-terms["elbo"])


def test_other_models_report_nothing() -> None:
    step = TrainingStep(VAE((5,), 2, net=NetConfig(width=8)), Elbo(), 4)
    step(batch_of(torch.arange(4) % 3, torch.ones(4))._replace(condition=None), 0)
    assert step.names == ["loss", "score", "elbo", "distortion", "rate"]


@pytest.mark.parametrize("labelled", [50, None])
def test_accuracy_on_validation_data_is_that_of_the_model(labelled: int | None) -> None:
    """Of a short training whose last step's weights are the model's; all labels told, or few of them in training."""
    data = load_data("digits", transform="none", condition="label", labelled=labelled)
    model = told_model(data)
    history = train(model, data, quiet=True, epochs=1, batch_size=64, lr=5e-3)
    rows = data.valid.batch(torch.arange(len(data.valid)))
    assert rows.label is not None
    with torch.no_grad():
        right = (model.classify(rows.x).argmax(1) == rows.label).double().mean().item()
    assert history["valid/accuracy"] == pytest.approx([right], abs=1e-6)
    assert 0.1 < history["train/accuracy"][0] < 1
    assert {"train/classification", "valid/elbo"} <= history.keys()
    assert "valid/classification" not in history
