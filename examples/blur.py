"""Why are the pictures of a VAE blurred? The same nets under several likelihoods and prices of the code.

A Gaussian with sigma = 1 says that grey levels in [0, 1] are known to about 1, so that hardly anything of a picture is
worth its nats in the code, and what is decoded is the mean over all pictures that the little code allows: blurred.
Price of the code and sigma are one knob: sigma = 1 with a KL of weight 1 has the same optimum for both nets as any
sigma with weight 1 / sigma^2 on the squared error. A sigma that is learned, or a likelihood of the grey levels
themselves, sets it by the data. Printed are, on test pictures,

    PSNR        of the reconstructions, dB
    sharpness   variance of the Laplacian, and mean squared gradient, as shares of those of the test pictures:
                of reconstructions and of samples, as means of p(x | z) and as draws of it (draws add noise, which these
                numbers take for detail)
    ELBO        nats, at weight 1; those of densities compare with each other, that of the mixture is of probabilities

    python examples/blur.py                                      # digits; picture in runs/blur/
    JENSEN_DATA=FOLDER python examples/blur.py --data mnist --limit 10000 --json blur.json
    JENSEN_DATA=FOLDER python examples/blur.py --data cifar10-subset --net conv --latent 64
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from jensen import VAE, load_data, train
from jensen.data import Data
from jensen.files import write_text
from jensen.metrics.sharpness import Sharpness, sharpness
from jensen.objectives import Beta, Elbo
from jensen.plots import save

MODELS: dict[str, tuple[str, float]] = {
    "sigma 1": ("gaussian", 1.0),
    "sigma 1, KL x 4": ("gaussian", 4.0),
    "sigma 1, KL x 0.02": ("gaussian", 0.02),
    "sigma learned": ("gaussian-learned", 1.0),
    "logistic mixture": ("discretised-logistic-mixture", 1.0),
}
"""Likelihood and weight of the KL. Weight 0.02 is that of sigma = 0.14."""
SHOWN, PICTURES = 10, 1000


@dataclass
class Row:
    """What one model came to; sharpness is a share of the test pictures'."""

    psnr: float
    elbo: float
    density: bool
    reconstructions: Sharpness
    samples: Sharpness
    drawn_reconstructions: Sharpness
    drawn_samples: Sharpness


def main(words: argparse.Namespace) -> None:
    """Train all, print a table, and draw one picture."""
    data = load_data(words.data, transform="none", limit=words.limit)
    real = next(data.test.batches(PICTURES)).target
    known = sharpness(real)
    rows: dict[str, Row] = {}
    drawn = {"test pictures": real[:SHOWN]}
    print(f"{words.data}, {words.epochs} epochs; sharpness as shares of the test pictures': Laplacian / gradient")
    print(f"{'':20}{'PSNR':>7}{'ELBO':>10}{'reconstructed':>16}{'sampled':>16}{'rec. drawn':>16}{'sam. drawn':>16}")
    for name, (likelihood, weight) in MODELS.items():
        model = fitted(data, likelihood, weight, words)
        rows[name], decoded, sampled = measured(model, real, known)
        drawn |= {f"{name}: reconstructed": decoded[:SHOWN], f"{name}: sampled": sampled[:SHOWN]}
        print(line(name, rows[name]), flush=True)
    save(tiles(drawn), words.folder / "blur.png")
    print(f"picture: {words.folder / 'blur.png'}")
    if words.json is not None:
        settings = {name: getattr(words, name) for name in ("data", "epochs", "net", "latent", "seed")}
        found = {"settings": settings, "real": asdict(known), "models": {n: asdict(r) for n, r in rows.items()}}
        write_text(words.json, json.dumps(found, indent=2) + "\n")


def fitted(data: Data, likelihood: str, weight: float, words: argparse.Namespace) -> VAE:
    """A model with the same nets, but for the last layer where a likelihood needs more numbers a pixel."""
    torch.manual_seed(words.seed)
    model = VAE(data.shape, words.latent, net=words.net, likelihood=likelihood, levels=data.levels)
    train(model, data, Beta(weight), seed=words.seed, epochs=words.epochs, quiet=True)
    return model


@torch.no_grad()
def measured(model: VAE, real: Tensor, known: Sharpness) -> tuple[Row, Tensor, Tensor]:
    """Numbers, and the means of reconstructions and samples."""
    torch.manual_seed(0)
    parts = [of_codes(model, model.encode(x)) for x in real.split(100)]
    decoded, decoded_draws = (torch.cat(kind) for kind in zip(*parts, strict=True))
    parts = [of_codes(model, torch.randn(len(x), model.latent)) for x in real.split(100)]
    sampled, sampled_draws = (torch.cat(kind) for kind in zip(*parts, strict=True))
    bounds = [float(Elbo()(model(x)).score) * len(x) for x in real.split(100)]
    error = (decoded - real).square().mean()
    kinds = (decoded, sampled, decoded_draws, sampled_draws)
    shares = [sharpness(images.clamp(0, 1)).relative(known) for images in kinds]
    psnr = float(-10 * torch.log10(error))
    return Row(psnr, sum(bounds) / len(real), not model.likelihood.discrete, *shares), decoded, sampled


def of_codes(model: VAE, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of p(x | z), and a draw of it."""
    distribution = model.decoder(z)
    return distribution.mean, distribution.sample()


def tiles(rows: dict[str, Tensor]) -> Figure:
    """Pictures (n, channels, height, width) of each name, a row of its own."""
    count, _, height, width = next(iter(rows.values())).shape
    figure = Figure(figsize=(0.7 * count + 2.5, 0.7 * len(rows) * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    strips = [torch.cat(list(torch.nn.functional.pad(images, (1, 1, 1, 1), value=1.0)), 2) for images in rows.values()]
    sheet = torch.cat(strips, 1).clamp(0, 1).movedim(0, -1).expand(-1, -1, 3)
    axes.imshow(sheet.numpy(), interpolation="nearest")
    axes.set_yticks([(row + 0.5) * (height + 2) for row in range(len(rows))], list(rows))
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def line(name: str, row: Row) -> str:
    """A row of the table."""
    each = (row.reconstructions, row.samples, row.drawn_reconstructions, row.drawn_samples)
    shares = "".join(f"{f'{one.laplacian:.2f} / {one.gradient:.2f}':>16}" for one in each)
    return f"{name:20}{row.psnr:7.2f}{row.elbo:10.1f}{shares}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Why are the pictures of a VAE blurred?")
    parser.add_argument("--data", default="mnist" if os.environ.get("JENSEN_DATA") else "digits")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--limit", type=int, default=None, help="use so many training pictures")
    parser.add_argument("--net", default="auto", help="mlp, conv, resnet or auto")
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/blur"))
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    main(parser.parse_args())
