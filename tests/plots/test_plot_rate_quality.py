"""Rate and quality stand where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from jensen.plots import RateQuality, rate_quality

CURVES = {
    "_VAE": RateQuality([0.1, 0.5], [14.0, 17.0], [0.5, 0.7], ("2 bits", "8 bits")),
    "JPEG": RateQuality([0.3, 0.9, 2.0], [12.0, 20.0, 30.0], [0.4, 0.8, 0.95]),
}


def test_points_are_where_they_belong() -> None:
    left, right = rate_quality(CURVES, title="$a$").axes
    for place, curve in enumerate(CURVES.values()):
        np.testing.assert_array_equal(left.lines[place].get_xdata(), curve.rate)
        np.testing.assert_array_equal(left.lines[place].get_ydata(), curve.psnr)
        np.testing.assert_array_equal(right.lines[place].get_ydata(), curve.ssim)
    assert (left.get_xscale(), left.get_yscale()) == ("log", "linear")
    assert (left.get_ylabel(), right.get_ylabel()) == ("PSNR, dB", "structural similarity")
    placed = {text.get_text(): tuple(text.xy) for text in left.texts if hasattr(text, "xy")}
    assert {"2 bits": (0.1, 14.0), "8 bits": (0.5, 17.0)}.items() <= placed.items()
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == list(CURVES)
    looks = {(line.get_marker(), line.get_linestyle()) for line in left.lines}
    assert len(looks) == 2


def test_there_is_no_panel_of_ssim_where_a_method_lacks_it() -> None:
    assert len(rate_quality({**CURVES, "WebP": RateQuality([1.0], [20.0])}).axes) == 1


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({}, "at least one method"),
        ({"a": RateQuality([1.0, 2.0], [1.0])}, "one shape"),
        ({"a": RateQuality([0.0], [1.0])}, "above 0"),
        ({"a": RateQuality([1.0], [1.0], labels=("x", "y"))}, "labels of 'a' should be 1"),
        ({"a": RateQuality([1.0], [np.inf])}, "finite"),
    ],
)
def test_wrong_input_is_refused(methods: dict[str, RateQuality], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rate_quality(methods)
