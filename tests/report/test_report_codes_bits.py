"""What a page says of the bits of integer codes, and what to do about codes that nothing uses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from jensen.autoencoders import VQVAE
from jensen.config import NetConfig, QuantiserConfig
from jensen.metrics import code_usage
from jensen.report import code_pictures
from jensen.report.further import further_rows
from jensen.report.html import Picture
from jensen.report.material import gather
from jensen.training import Run


def usage_picture(run: Run, quantiser: QuantiserConfig | None = None) -> Picture:
    """The picture of the use of codes on the page of a run; of one with another quantiser, if given."""
    with torch.no_grad():
        material = gather(run)
        model, held_out = material.model, material.held_out
        assert held_out is not None
        if quantiser is not None:
            net = NetConfig(kind="conv", width=8, depth=1)
            model = VQVAE(model.shape, downsampling=2, quantiser=quantiser, net=net)
            x = held_out.x
            held_out = replace(held_out, codes=model.eval().encode(x))
            material = replace(material, model=model)
        assert isinstance(model, VQVAE)
        return next(each for each in code_pictures.codes(material, model, held_out) if each.name == "code-usage")


@pytest.mark.parametrize(
    ("given", "said", "unsaid"),
    [
        (None, "dead codes, for which the model pays without using them: longer training, a smaller", "revival"),
        ({"codes": 16, "revival": 0.0}, "without using them: model.quantiser.revival 0.1 puts", "k-means"),
        ({"codes": 16, "initial": "random"}, "without using them: model.quantiser.initial k-means", "revival"),
        ({"kind": "gumbel", "codes": 16}, "a higher temperature", "decay"),
        ({"kind": "finite-scalar", "values": (3, 4)}, "do not need, and for which the model pays", "dead"),
    ],
)
def test_advice_is_what_the_quantiser_does_not_do(
    coded: Callable[..., Run], given: dict[str, Any] | None, said: str, unsaid: str
) -> None:
    text = usage_picture(coded("images"), None if given is None else QuantiserConfig(dim=8, **given)).text
    assert said in text
    assert unsaid not in text


def test_levels_have_the_same_names_in_rows_and_pictures(coded: Callable[..., Run]) -> None:
    run = coded("levels")
    figure = usage_picture(run).figure
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().split()[0].rstrip(",:") for text in legend.get_texts()][:2] == ["top", "bottom"]
    found = code_usage(run.model(), run.data().test)
    names = [row.name for row in further_rows({"code_usage": found.to_dict()})]
    assert names[:2] == ["Codes used, top level", "Codes used, bottom level"]


def test_hidden_values_are_what_bits_are_divided_by(coded: Callable[..., Run]) -> None:
    run = coded("half")
    found = code_usage(run.model(), run.data().test)
    assert found.dims == 32
    rows = {row.name: row for row in further_rows({"code_usage": found.to_dict()})}
    assert rows["Bits of the code, all equally probable"].value == "2.0000"  # 16 codes of 4 bits
    assert "for each value of the datum that it describes" in rows["Bits of the code, all equally probable"].meaning


def test_bits_of_a_code_that_predicts_are_those_of_an_example(coded: Callable[..., Run]) -> None:
    run = coded("images")
    found = replace(
        code_usage(run.model(), run.data().test),
        dims=None,
        bits_per_dim_uniform=None,
        bits_per_dim_empirical=None,
    )
    rows = {row.name: row for row in further_rows({"code_usage": found.to_dict()})}
    assert rows["Bits of the code, all equally probable"].value == "64.00"
    assert rows["Bits of the code, by frequency"].value == f"{found.nats_empirical / math.log(2):.2f}"
    assert not any("each value" in row.meaning for row in rows.values())
    assert "Bits of the code, learned prior" not in rows


def test_a_drawn_code_has_a_price_and_not_the_rate(coded: Callable[..., Run]) -> None:
    found = code_usage(coded("images").model(), coded("images").data().test)
    for drawn in (False, True):
        rows = further_rows({"code_usage": replace(found, drawn=drawn).to_dict()})
        bits = [row for row in rows if row.name.startswith("Bits of the code")]
        assert len(bits) == 2
        assert all(("more than the rate" in row.meaning) is drawn for row in bits)
