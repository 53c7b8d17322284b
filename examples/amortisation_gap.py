"""What an encoder costs: its q(z | x) against a q optimised for each datum by itself.

VAEs with 2 and 10 latents are trained on the 1,797 handwritten digits that come with scikit-learn. Then, for training
and for test digits, the decoder is held fixed and a normal q(z) is optimised for each digit alone, from the encoder's
q on. What the bound wins is the amortisation gap; what is still missing to log p(x), estimated with importance weights,
is the approximation gap: no normal q with a diagonal covariance has it (Cremer, Li & Duvenaud 2018).

    python examples/amortisation_gap.py                  # about a minute; writes runs/amortisation_gap.png
    python examples/amortisation_gap.py my-picture.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from jensen import VAE, load_data, train
from jensen.inference.amortisation import AmortisationGap, amortisation_gap
from jensen.plots import save
from jensen.plots.amortisation import LocalPosterior, amortisation_gaps

LATENTS = (2, 10)
EPOCHS = 60
DATA = 120  # digits measured of each split
POINTS = 121  # a side of the grids that posteriors are drawn on


def main(path: Path) -> None:
    """Train, measure, print, draw."""
    data = load_data("digits", transform="none")
    digits = {"training": data.train, "test": data.test}
    gaps: dict[str, tuple[float, float]] = {}
    panels: list[LocalPosterior] = []
    for latent in LATENTS:
        torch.manual_seed(0)  # of the weights
        model = VAE(data.shape, latent, net="mlp", likelihood="discretised-logistic", levels=data.levels)
        print(f"\ntraining a VAE with {latent} latents: {EPOCHS} epochs")
        train(model, data, quiet=True, epochs=EPOCHS, batch_size=64, lr=2e-3, decay="cosine")
        for split, source in digits.items():
            x = source.batch(torch.arange(DATA)).x
            found = amortisation_gap(
                model,
                x,
                steps=200,
                evaluation_samples=200,
                importance_samples=500,
                generator=torch.Generator().manual_seed(0),
            )
            assert found.approximation is not None
            print(f"\n{latent} latents, {split} digits\n{found}")
            gaps[f"{latent} latents,\n{split}"] = float(found.gap.mean()), float(found.approximation.mean())
            if latent == 2 and split == "test":
                panels = typical(model, x, found)
    print(f"\n{save(amortisation_gaps(gaps, panels), path)}")


def typical(model: VAE, x: Tensor, found: AmortisationGap) -> list[LocalPosterior]:
    """Exact posteriors of the test digits with the median, a large (9 in 10 are smaller) and the largest gap."""
    order = found.gap.argsort()
    places = {"median gap": 0.5, "90% quantile": 0.9, "largest gap": 1.0}
    chosen = {name: order[int(share * (len(order) - 1))] for name, share in places.items()}
    encoder = model.posterior(x)
    panels = []
    for name, i in chosen.items():
        encoders = encoder.loc[i].detach(), encoder.scale[i].detach()
        own = found.loc[i], found.scale[i]
        low = torch.minimum(encoders[0] - 3.5 * encoders[1], own[0] - 3.5 * own[1])
        high = torch.maximum(encoders[0] + 3.5 * encoders[1], own[0] + 3.5 * own[1])
        z1, z2 = (torch.linspace(float(a), float(b), POINTS) for a, b in zip(low, high, strict=True))
        z = torch.stack(torch.meshgrid(z1, z2, indexing="xy"), -1)
        title = f"{name}: {found.gap[i]:.2f} nats"
        panels.append(LocalPosterior(title, x[i], z1, z2, log_joint(model, x[i], z), encoders, own))
    return panels


@torch.no_grad()
def log_joint(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) in nats at points z (..., latent) of one datum."""
    log_likelihood = model.decoder(z).log_prob(x).flatten(z.dim() - 1).sum(-1)
    total: Tensor = log_likelihood + model.prior().log_prob(z).sum(-1)
    return total


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/amortisation_gap.png"))
