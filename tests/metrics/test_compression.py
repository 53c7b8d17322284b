"""Rate against quality: bytes that are counted are those that are written, and images those that are read again."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from jensen import VAE
from jensen.metrics import compression as module
from jensen.metrics.compression import Point, code_points, compression, decoder_bytes, quality_at, size_at
from jensen.metrics.image_quality import psnr
from jensen.metrics.picture_files import each_file, one_sheet, sheet
from jensen.metrics.quantised import packed, quantise, smallest

GENERATOR = torch.Generator().manual_seed(0)
BASIS = torch.randn(3, 1, 9, 8, generator=GENERATOR) / 8
CODES = torch.randn(7, 3, generator=GENERATOR)


def decode(codes: torch.Tensor) -> torch.Tensor:
    """Images that are linear in their codes: what is lost is lost by the codes alone."""
    return 0.5 + torch.einsum("bk,kchw->bchw", codes, BASIS)


IMAGES = decode(CODES).clamp(0, 1)
POINTS = [
    Point("JPEG", str(size), size, 0.0, quality, None) for size, quality in ((100, 10.0), (1000, 20.0), (10_000, 40.0))
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["JPEG", "WebP"])
def test_files_are_read_again_as_pillow_reads_them(form: str, channels: int) -> None:
    images = torch.rand(5, channels, 9, 8, generator=torch.Generator().manual_seed(0))
    pictures = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    found = each_file(images, form, 90)
    size, made = 0, []
    for picture in pictures:
        file = io.BytesIO()
        options: dict[str, Any] = {"optimize": True} if form == "JPEG" else {"method": 6}
        Image.fromarray(picture[..., 0] if channels == 1 else picture).save(file, form, quality=90, **options)
        size += len(file.getvalue())
        made.append(np.asarray(Image.open(file).convert("L" if channels == 1 else "RGB")).reshape(picture.shape))
    assert found.bytes == size
    np.testing.assert_array_equal((found.images * 255).round().permute(0, 2, 3, 1).numpy(), np.stack(made))
    together = one_sheet(images, form, 90)
    assert together.images.shape == images.shape
    assert together.bytes < 0.7 * size  # the headers of four files
    # Every image is where it was: its own is nearer than any other.
    distance = (together.images[:, None] - images[None]).square().mean((2, 3, 4))
    assert distance.argmin(1).tolist() == list(range(5))


def test_a_sheet_has_its_pictures_row_by_row() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] + np.ones((5, 2, 3, 1), np.uint8)
    found = sheet(pictures)[..., 0]
    assert found.shape == (4, 9)
    np.testing.assert_array_equal(found[::2, ::3], [[1, 2, 3], [4, 5, 0]])
    assert sheet(pictures[:1]).shape == (2, 3, 1)
    with pytest.raises(ValueError, match="need images"):
        each_file(torch.zeros(2, 2, 4, 4), "JPEG", 50)


def test_bytes_and_quality_of_codes() -> None:
    points = {point.setting: point for point in code_points(IMAGES, CODES, decode, beside=11)}
    assert points["float32"].bytes == 4 * 21 + 11
    assert points["float16"].bytes == 2 * 21 + 11
    kept = quantise(CODES, 4)
    assert points["4 bits"].bytes == smallest(kept.levels, 4)[0] + 2 * 3 * 4 + 11
    assert smallest(kept.levels, 4)[0] <= len(packed(kept.levels, 4))
    assert points["4 bits"].psnr == pytest.approx(psnr(IMAGES, decode(kept.restored()).clamp(0, 1)))
    assert points["float32"].bits_per_pixel == pytest.approx(8 * 95 / (7 * 72))
    assert points["float32"].psnr == math.inf
    ladder = [points[f"{bits} bits"] for bits in (8, 7, 6, 5, 4, 3, 2)]
    assert [each.psnr for each in ladder] == sorted((each.psnr for each in ladder), reverse=True)
    # half the step, a quarter of the squared error: six decibels a bit
    assert (ladder[0].psnr - ladder[4].psnr) / 4 == pytest.approx(6.02, abs=1.5)


def test_a_pixel_has_three_colours() -> None:
    colour = IMAGES.expand(-1, 3, -1, -1)
    point = code_points(colour, CODES, lambda codes: decode(codes).expand(-1, 3, -1, -1))[0]
    assert point.bits_per_pixel == pytest.approx(8 * 4 * 21 / (7 * 72))


def test_integer_codes() -> None:
    codes = torch.randint(5, (7, 4), generator=torch.Generator().manual_seed(0))
    found = compression(
        IMAGES,
        codes,
        lambda given: torch.where((given == codes).all(), IMAGES, 0.0),
        decoder=0,
        levels=5,
        prior_bits=4.0,
    )
    first, ideal = found.of("model")
    assert first.setting.startswith("codes of 5")
    assert first.bytes <= math.ceil(7 * 4 * 3 / 8)
    assert (first.psnr, ideal.bytes) == (math.inf, math.ceil(7 * 4.0 / 8))


def test_what_is_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUALITIES", (1, 90))
    seen: list[tuple[int, int]] = []
    found = compression(IMAGES, CODES, decode, decoder=1234, progress=lambda *at: seen.append(at))
    assert seen == [(place, 17) for place in range(1, 18)]
    assert found.methods == ["model", "JPEG, a file each", "WebP, a file each", "JPEG, one sheet", "WebP, one sheet"]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["points"][0]["psnr"] is None
    assert plain["points"][2]["psnr"] == found.points[2].psnr
    rows = {name: words for name, _, words in found.table()}
    assert "1,234 bytes of weights" in rows["decoder"]
    for form in ("JPEG, one sheet", "WebP, one sheet"):
        other = quality_at(found.of(form), found.of("model")[2].bytes)
        said = f"{form} cannot" if other is None else f"{form} {other:.2f} dB"
        assert said in rows["model, 8 bits"]
    assert all(point.ssim is not None and point.ssim <= 1 for point in found.points)
    monkeypatch.setattr(module, "has_scikit_image", lambda: False)
    assert all(point.ssim is None for point in code_points(IMAGES, CODES, decode))


def test_between_points_bytes_are_on_a_logarithmic_scale() -> None:
    assert quality_at(POINTS, 99) is None
    assert quality_at(POINTS, 100) == pytest.approx(10.0)
    assert quality_at(POINTS, round(100 * 10**0.5)) == pytest.approx(15.0, abs=0.01)
    assert quality_at(POINTS, 10**6) == pytest.approx(40.0)
    assert size_at(POINTS, 41.0) is None
    assert size_at(POINTS, 30.0) == pytest.approx(1000 * 10**0.5)
    assert size_at(POINTS, 1.0) == pytest.approx(100)
    assert quality_at([], 5) is size_at([], 5.0) is None


def test_notes_say_who_is_better_and_when_the_decoder_has_paid() -> None:
    def found(*model: tuple[int, float]) -> list[str]:
        own = [Point("model", f"{size} b", size, 0.0, quality, None) for size, quality in model]
        sheet_points = [Point("JPEG, one sheet", point.setting, point.bytes, 0.0, point.psnr, None) for point in POINTS]
        return module._notes(module.Compression([*own, *sheet_points], 10, 64, 8950))

    notes = " ".join(found((100, 20.0), (1000, 15.0), (50, 1.0)))
    assert "better as 100 b; worse as 1000 b; smaller than that can be as 50 b" in notes
    # at 20 dB a sheet takes 1,000 bytes for ten images, 90 more than these codes for each: 8,950 / 90
    assert "As 100 b the model takes 10.0 bytes an image, and a sheet of at least that PSNR 100.0" in notes
    assert "paid for itself after 100 images" in notes
    assert "no saving that would pay for the decoder" in " ".join(found((1000, 15.0)))


def test_weights_of_decoding_are_all_but_the_encoders() -> None:
    model = VAE((1, 8, 8), 3, net="mlp")
    encoder = sum(value.nbytes for value in model.encoder.state_dict().values())
    assert decoder_bytes(model) == sum(value.nbytes for value in model.state_dict().values()) - encoder
    decoder = sum(value.nbytes for value in model.decoder.state_dict().values())
    assert decoder <= decoder_bytes(model) < decoder + 100
    assert decoder_bytes(nn.Linear(3, 5)) == 4 * 20
