"""Why a plain auto-encoder does not generate: what latent points decode to, near an encoded datum and at random.

An auto-encoder and a VAE with the same networks are trained the same way on the 1,797 handwritten digits that come with
scikit-learn. Then latent points are decoded: codes of test digits, points at growing distance from them, and random
ones. The number is the precision of Kynkäänniemi et al. (2019): the share of decoded images that lie on the manifold of
the training digits, that is, nearer to some training digit than that digit's own third-nearest neighbour.

    python examples/random_latents.py                  # under a minute; writes runs/random_latents.png
    python examples/random_latents.py my-picture.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from jensen import VAE, AutoEncoder, load_data, train
from jensen.autoencoders import EncoderDecoder
from jensen.data import Data
from jensen.metrics import manifold_precision
from jensen.plots import Decoded, LatentProbe, random_latents, save

EPOCHS = 100
DISTANCES = (0.0, 0.25, 0.5, 1.0, 2.0)
STANDARD, FITTED, CORRELATED = "N(0, I)", "fitted normal", "with correlation"

EXPLANATION = f"""
How to read it. Distances are in units of the spread of the model's own codes (the root of their summed variances), so
that both models are measured with their own yardstick; directions are random.

- distance 0 is a plain reconstruction: both models pass.
- {STANDARD}: what a user would try first. For the VAE this is the prior that it was trained with. The auto-encoder
  was never told about it, so this alone would be unfair: its codes may just lie elsewhere, or on another scale.
- {FITTED}: a normal distribution with the mean and standard deviation of the model's own codes, dimension by
  dimension: the fair version, as it forgives place and scale.
- {CORRELATED}: fairer still, a normal with the codes' whole covariance. What then remains of the difference is
  that the auto-encoder's codes do not fill a normal distribution: they leave holes, and nothing was ever trained to
  decode what lies there. The VAE gains little from either fit: its codes were pulled towards N(0, I) in training.

Far enough from any code the VAE fails too: its promise is about draws from the prior, not about all of space. And a
high precision does not make samples varied or sharp, it only says that each looks like some digit: a blurred one too.
"""


def main(path: Path) -> None:
    """Train both models, print the table, draw the picture."""
    data = load_data("digits", transform="none")
    torch.manual_seed(0)  # of the weights
    models = {
        "auto-encoder": AutoEncoder(data.shape, 10, net="mlp", likelihood="discretised-logistic", levels=data.levels),
        "VAE": VAE(data.shape, 10, net="mlp", likelihood="discretised-logistic", levels=data.levels),
    }
    probes = []
    for name, model in models.items():
        print(f"training the {name}: {EPOCHS} epochs")
        train(model, data, quiet=True, epochs=EPOCHS, batch_size=64, lr=2e-3, decay="cosine")
        probes.append(probe(name, model, data))
    print(table(probes))
    print(EXPLANATION)
    figure = random_latents(*probes, distance="distance / spread of codes")
    print(save(figure, path))


@torch.no_grad()
def probe(name: str, model: EncoderDecoder, data: Data, draws: int = 1000) -> LatentProbe:
    """Decode points near codes of test digits, and random ones; measure how many look like training digits."""
    torch.manual_seed(0)
    train_images = data.train.batch(torch.arange(len(data.train))).x
    codes = model.encode(train_images)
    mean, deviation = codes.mean(0), codes.std(0)
    spread = deviation.square().sum().sqrt()
    starts = model.encode(data.test.batch(torch.arange(len(data.test))).x)
    directions = torch.nn.functional.normalize(torch.randn_like(starts), dim=1)

    def decoded(points: Tensor) -> Decoded:
        images = model.decode(points)
        return Decoded(images, manifold_precision(images, train_images, k=3))

    noise = torch.randn(draws, model.latent)
    correlated = mean + noise @ torch.linalg.cholesky(torch.cov(codes.T)).T
    return LatentProbe(
        name,
        near={distance: decoded(starts + distance * spread * directions) for distance in DISTANCES},
        random={STANDARD: decoded(noise), FITTED: decoded(mean + deviation * noise), CORRELATED: decoded(correlated)},
    )


def table(probes: list[LatentProbe]) -> str:
    """Precision, a line a kind of point, a column a model."""
    lines = ["", "precision: share of decoded images on the manifold of the training digits", ""]
    lines.append(f"{'':28}" + "".join(f"{probe.name:>14}" for probe in probes))
    for distance in DISTANCES:
        shares = "".join(f"{probe.near[distance].precision:14.2f}" for probe in probes)
        lines.append(f"{f'at distance {distance:g} of a code':28}{shares}")
    for kind in (STANDARD, FITTED, CORRELATED):
        shares = "".join(f"{probe.random[kind].precision:14.2f}" for probe in probes)
        lines.append(f"{f'random: {kind}':28}{shares}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/random_latents.png"))
