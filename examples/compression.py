"""Compression: codes of VAEs and of a VQ-VAE in fewer and fewer bits, beside JPEG and WebP of the same digits.

Bytes are those of files: codes with their scales as the smallest of plain packing, zlib and lzma leaves them; pictures
as Pillow writes them, a file each and all on one sheet. Needs scikit-image for SSIM: pip install 'jensen[compare]'

    python examples/compression.py                          # digits of scikit-learn, a minute; runs/compression
    JENSEN_DATA=FOLDER python examples/compression.py       # MNIST, where FOLDER holds mnist.npz
    python examples/compression.py --data mnist --epochs 2 --output DIR
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor

from jensen import VAE, VQVAE, load_data, train
from jensen.autoencoders import EncoderDecoder
from jensen.config import QuantiserConfig
from jensen.data import Data
from jensen.metrics.compression import Point, code_points, decoder_bytes, picture_points, quality_at
from jensen.plots import RateQuality, rate_quality, save

LATENTS = (4, 16, 48)
KEPT = 500
SIGMA = 0.1
EPOCHS = {"digits": 60, "mnist": 3}
VQ_EPOCHS = {"digits": 20, "mnist": 1}


def main(name: str, epochs: int | None, folder: Path) -> None:
    """Train, keep, compare, draw."""
    torch.manual_seed(0)
    data = load_data(name, transform="none")
    images = data.test.batch(torch.arange(min(KEPT, len(data.test)))).x
    curves: dict[str, list[Point]] = {}
    weights: dict[str, int] = {}
    for model_name, model in models(data, epochs, name).items():
        curves[model_name] = kept(model, images)
        weights[model_name] = decoder_bytes(model)
    ways = picture_points(images)
    pictures = {
        method: [point for point in ways if point.method == method] for method in dict.fromkeys(p.method for p in ways)
    }
    print(f"{name}, {len(images)} test images\n")
    print_models(curves, pictures, weights, len(images))
    print_pictures(pictures, len(images))
    sheets = {method: points for method, points in pictures.items() if method.endswith("one sheet")}
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {each: curve(points) for each, points in {**curves, **sheets}.items()}
    print(
        save(
            rate_quality(drawn, title=f"{len(images)} images of {name} in how many bits"),
            folder / f"compression-{name}.png",
        )
    )


def models(data: Data, epochs: int | None, name: str) -> dict[str, EncoderDecoder]:
    """VAEs with codes of several sizes, and a VQ-VAE, trained."""
    found: dict[str, EncoderDecoder] = {}
    for latent in LATENTS:
        torch.manual_seed(0)
        vae = VAE(data.shape, latent, net="mlp", likelihood="gaussian", sigma=SIGMA)
        train(vae, data, epochs=epochs or EPOCHS[name], lr=1e-3, quiet=True)
        found[f"VAE, {latent} latents"] = vae
    torch.manual_seed(0)
    side = 4 if name == "mnist" else 2
    discrete = VQVAE(
        data.shape,
        downsampling=side,
        quantiser=QuantiserConfig(codes=256),
        likelihood="gaussian",
        sigma=SIGMA,
        levels=data.levels,
    )
    train(discrete, data, epochs=epochs or VQ_EPOCHS[name], lr=1e-3, quiet=True)
    found[f"VQ-VAE, {discrete.latent} codes of 256"] = discrete
    return found


@torch.no_grad()
def kept(model: EncoderDecoder, images: Tensor) -> list[Point]:
    """Its codes of the images at all rates."""
    levels = model.code_levels if isinstance(model, VQVAE) else None
    return code_points(images, model.encode(images), model.decode, levels=levels)


def print_models(
    curves: dict[str, list[Point]], pictures: dict[str, list[Point]], weights: dict[str, int], count: int
) -> None:
    """A row a model and precision, with what a sheet has at as many bytes."""
    print("| model | kept as | bytes an image | bits a pixel | PSNR, dB | SSIM | JPEG sheet at as many | WebP sheet |")
    print("|---|---|---|---|---|---|---|---|")
    for name, points in curves.items():
        for point in points:
            others = [quality_at(pictures[f"{form}, one sheet"], point.bytes) for form in ("JPEG", "WebP")]
            at = " | ".join("not so small" if quality is None else f"{quality:.2f}" for quality in others)
            print(f"| {name} | {point.setting} | {cells(point, count)} | {at} |")
    print("\n| decoder of | bytes of weights |\n|---|---|")
    for name, size in weights.items():
        print(f"| {name} | {size:,} |")


def print_pictures(pictures: dict[str, list[Point]], count: int) -> None:
    """A row a format and quality."""
    print("\n| format | quality | bytes an image | bits a pixel | PSNR, dB | SSIM |\n|---|---|---|---|---|---|")
    for method, points in pictures.items():
        for point in points:
            print(f"| {method} | {point.setting.removeprefix('quality ')} | {cells(point, count)} |")


def cells(point: Point, count: int) -> str:
    """Bytes an image, bits a pixel, PSNR and SSIM."""
    alike = "" if point.ssim is None else f"{point.ssim:.3f}"
    return f"{point.bytes / count:.1f} | {point.bits_per_pixel:.3f} | {point.psnr:.2f} | {alike}"


def curve(points: list[Point]) -> RateQuality:
    """What is drawn of a method."""
    alike = None if points[0].ssim is None else [point.ssim for point in points]
    return RateQuality([point.bits_per_pixel for point in points], [point.psnr for point in points], alike)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "mnist" if os.environ.get("JENSEN_DATA") else "digits"
    parser.add_argument("--data", choices=list(EPOCHS), default=default)
    parser.add_argument("--epochs", type=int, help="of each model")
    parser.add_argument("--output", type=Path, default=Path("runs/compression"), metavar="DIR")
    options = parser.parse_args()
    main(options.data, options.epochs, options.output)
