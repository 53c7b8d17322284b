"""z ~ N(0, 1), y ~ PRIOR, x = w z + m_y + NOISE eps in three dimensions: class-conditional models that are exact."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from jensen.autoencoders import VAE
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.data import Batch
from jensen.likelihoods import Gaussian

CLASSES, FEATURES, NOISE = 3, 3, 0.8
PRIOR = (0.5, 0.3, 0.2)
W = torch.tensor([1.0, -0.5, 0.7])
M = torch.tensor([[1.0, 0.0, -0.5], [-1.0, 0.8, 0.0], [0.2, -1.0, 1.0]])
COVARIANCE = W.outer(W) + NOISE**2 * torch.eye(FEATURES)


class Together(nn.Module):
    """A network of its input and its condition side by side."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.net(torch.cat([x, condition], 1))
        return out


@dataclass
class Labelled:
    """Held-out data from tensors; `told`: with the label as condition."""

    x: Tensor
    label: Tensor | None
    told: bool = True
    condition: Tensor | None = None
    mask: Tensor | None = None
    levels: int | None = None
    transform: str = "none"

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        label = None if self.label is None else self.label[index]
        condition = None if self.condition is None else self.condition[index]
        if condition is None and label is not None:
            condition = F.one_hot(label, CLASSES).to(self.x.dtype) * self.told
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[index]
        return Batch(self.x[index], self.x[index], label, index, condition=condition, mask=mask)


def data(n: int, told: bool = True) -> Labelled:
    """Drawn from the model."""
    label = torch.multinomial(torch.tensor(PRIOR), n, replacement=True)
    x = torch.randn(n, 1) * W + M[label] + NOISE * torch.randn(n, FEATURES)
    return Labelled(x, label, told)


def log_likelihood(x: Tensor) -> Tensor:
    """log p(x | y), (batch, classes), exact."""
    return MultivariateNormal(M, COVARIANCE).log_prob(x[:, None])


def log_prior() -> Tensor:
    """log p(y)."""
    return torch.tensor(PRIOR).log()


def nets(exact: bool = True, listens: bool = True) -> dict[str, nn.Module]:
    """Encoder and decoder; the posterior exact or too wide, the decoder listening to the class or not."""
    encoder = nn.Linear(FEATURES + CLASSES, 2)
    decoder = nn.Linear(1 + CLASSES, FEATURES, bias=False)
    m = M if listens else torch.zeros_like(M)
    variance = 1 / (1 + (W**2).sum() / NOISE**2)
    gain = variance * W / NOISE**2
    scale = variance.sqrt() * (1.0 if exact else 1.4)
    with torch.no_grad():
        decoder.weight.copy_(torch.cat([W[:, None], m.T], 1))
        encoder.weight.zero_()
        encoder.weight[0] = torch.cat([gain, -m @ gain])
        encoder.bias.copy_(torch.stack([torch.zeros(()), 7 * torch.atanh(scale.log() / 7)]))
    return {"encoder": Together(encoder), "decoder": Together(decoder)}


def conditional(exact: bool = True, listens: bool = True) -> VAE:
    """A VAE told the class."""
    own = nets(exact, listens)
    return VAE((FEATURES,), 1, condition_shape=(CLASSES,), likelihood=Gaussian(NOISE), **own)


def semi_supervised(exact: bool = True, listens: bool = True, classifier: nn.Module | None = None) -> SemiSupervisedVAE:
    """A VAE that guesses the class, exactly unless it has another classifier."""
    if classifier is None:
        classifier = nn.Linear(FEATURES, CLASSES)
        inverse = torch.linalg.inv(COVARIANCE)
        with torch.no_grad():
            classifier.weight.copy_(M @ inverse)
            classifier.bias.copy_(log_prior() - 0.5 * ((M @ inverse) * M).sum(1))
    return SemiSupervisedVAE(
        (FEATURES,),
        1,
        condition_shape=(CLASSES,),
        classifier=classifier,
        class_prior=PRIOR,
        likelihood=Gaussian(NOISE),
        **nets(exact, listens),
    )
