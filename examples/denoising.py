"""Denoising: an auto-encoder and a VAE beside classical filters, on four corruptions of the same digits.

Each model learns to give back clean images from corrupted ones, once for each corruption. Filters have their settings
chosen on validation images. The table has PSNR and SSIM on clean test images; the picture shows some of them.
Needs scikit-image for SSIM and non-local means: pip install 'jensen[compare]'

    python examples/denoising.py                          # digits of scikit-learn, under a minute; runs/denoising
    JENSEN_DATA=FOLDER python examples/denoising.py       # MNIST, where FOLDER holds mnist.npz
    python examples/denoising.py --data mnist --epochs 2 --output DIR
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jensen import VAE, AutoEncoder, load_data, train
from jensen.data import Data
from jensen.metrics.denoising import Denoised, compare_denoised, tuned_filters
from jensen.plots import save

CORRUPTIONS = {"gaussian": 0.3, "salt-and-pepper": 0.3, "masking": 0.3, "blur": 0.3}
LIMIT = 10_000
"""training images: enough for the comparison, in a fraction of the time"""
TUNED, TESTED, SHOWN = 50, 200, 8
SIGMA = 0.1
EPOCHS = {"digits": 60, "mnist": 5}
LATENT = {"digits": 24, "mnist": 48}


def main(name: str, epochs: int | None, folder: Path) -> None:
    """Train, filter, compare, draw."""
    torch.manual_seed(0)
    panels = {}
    print(f"{name}, at most {LIMIT:,} training images, {TESTED} test images\n")
    print("| corruption | method | PSNR, dB | SSIM | settings |\n|---|---|---|---|---|")
    for corruption, strength in CORRUPTIONS.items():
        data = load_data(name, transform="none", corruption=corruption, corruption_strength=strength, limit=LIMIT)
        ways = denoised(data, epochs or EPOCHS[name], LATENT[name])
        clean = data.test.batch(torch.arange(TESTED)).target
        for row in compare_denoised(clean, ways):
            print(line(corruption, row), flush=True)
        panels[f"{corruption} {strength}"] = {way: made for way, (_, made) in ways.items()} | {"clean": clean}
    folder.mkdir(parents=True, exist_ok=True)
    print(save(picture(panels), folder / f"denoising-{name}.png"))


def denoised(data: Data, epochs: int, latent: int) -> dict[str, tuple[str, Tensor]]:
    """Test images by every method, with its settings in words."""
    valid, test = (split.batch(torch.arange(count)) for split, count in ((data.valid, TUNED), (data.test, TESTED)))
    strength, kind = data.config.corruption_strength, data.config.corruption
    known = {"gaussian": {"sigma": strength}, "blur": {"blurred": strength}}.get(kind, {})
    ways = {"corrupted": ("", test.x)}
    ways |= {way.name: (way.settings, way.apply(test.x)) for way in tuned_filters(valid.target, valid.x, **known)}
    for name, make in (("auto-encoder", AutoEncoder), ("VAE", VAE)):
        torch.manual_seed(0)
        model = make(data.shape, latent, net="mlp", likelihood="gaussian", sigma=SIGMA)
        train(model, data, epochs=epochs, lr=1e-3, quiet=True)
        ways[name] = (f"{latent} latents", model.reconstruct(test.x))
    return ways


def line(corruption: str, row: Denoised) -> str:
    """A row of the table."""
    alike = "" if row.ssim is None else f"{row.ssim:.3f}"
    return f"| {corruption} | {row.method} | {row.psnr:.2f} | {alike} | {row.settings} |"


def picture(panels: dict[str, dict[str, Tensor]]) -> Figure:
    """A panel a corruption: a row a method, a column a digit."""
    figure = Figure(figsize=(11, 7.2), dpi=100, layout="constrained", facecolor="white")
    for axes, (title, ways) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        tiles = torch.stack([made[:SHOWN, 0].clamp(0, 1) for made in ways.values()])
        tiles = torch.nn.functional.pad(tiles, [max(1, tiles.shape[-1] // 14)] * 4, value=1.0)  # white between images
        rows = [np.concatenate(list(row.numpy()), axis=1) for row in tiles]
        side = len(rows[0])
        axes.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_yticks([side * (place + 0.5) - 0.5 for place in range(len(rows))], list(ways))
        axes.set_xticks([])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "mnist" if os.environ.get("JENSEN_DATA") else "digits"
    parser.add_argument("--data", choices=list(EPOCHS), default=default)
    parser.add_argument("--epochs", type=int, help="of each of the eight models")
    parser.add_argument("--output", type=Path, default=Path("runs/denoising"), metavar="DIR")
    options = parser.parse_args()
    main(options.data, options.epochs, options.output)
