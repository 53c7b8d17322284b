"""What is on the page of a run: its pictures, and the commands that it suggests."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jensen.autoencoders import VQVAE
from jensen.cli.app import build_app
from jensen.report import page as page_module
from jensen.report import pictures as pictures_module
from jensen.report.html import Picture
from jensen.report.material import Material, gather
from jensen.report.pictures import pictures
from jensen.training import Run


def opened(run: Run) -> Material:
    """What the page of a run is made from."""
    with torch.no_grad():
        return gather(run)


def drawn(material: Material) -> dict[str, Picture]:
    """Every picture of a run's page."""
    with torch.no_grad():
        return {picture.name: picture for picture in pictures(material, None)}


def sampled(material: Material) -> Picture:
    """What the model draws, alone."""
    with torch.no_grad():
        return pictures_module._samples(material, material.held_out)


def tiles(picture: Picture) -> list[Tensor]:
    """What `imshow` got, in drawing order."""
    assert picture.figure is not None
    return [torch.from_numpy(np.asarray(i.get_array())) for axes in picture.figure.axes for i in axes.images]


def lines(figure: Figure | None) -> list[str]:
    """The lines of a figure of texts, from top to bottom."""
    assert figure is not None
    rows: dict[float, str] = {}
    for text in figure.axes[0].texts:
        (x, y), written = text.get_position(), rows.get(text.get_position()[1], "")
        rows[y] = written if x < 0 else written.ljust(round(x)) + text.get_text()
    return [rows[y] for y in sorted(rows)]


def commands(material: Material) -> list[str]:
    """What the page suggests; each is one that the program takes."""
    suggested = [command for _, command in page_module._commands(material)]
    for command in suggested:
        program, name, *rest = shlex.split(command)
        assert program == "jensen"
        build_app(name).parse_args([name, *rest], exit_on_error=False, print_error=False)
    return suggested


def decodings(material: Material, monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """(codes, what they were decoded to) of every call from now on, and the codes that the prior drew."""
    model, decoded, codes = material.model, list[tuple[Tensor, Tensor]](), list[Tensor]()
    assert isinstance(model, VQVAE)
    decode = model.decode

    def spy(z: Tensor, condition: Tensor | None = None) -> Tensor:
        decoded.append((z, decode(z, condition)))
        return decoded[-1][1]

    monkeypatch.setattr(model, "decode", spy)
    if model.code_prior is not None:
        draw = model.code_prior.sample_codes

        def watched(*arguments: object, **more: object) -> Tensor:
            codes.append(draw(*arguments, **more))  # type: ignore[arg-type]
            return codes[-1]

        monkeypatch.setattr(model.code_prior, "sample_codes", watched)
    return decoded, codes
