"""Quality of generated images: real images are good, noise is not, one class is not all."""

from __future__ import annotations

import json
import math

import pytest
import torch

from jensen.data import Data, load_data
from jensen.metrics import Classifier, fit_classifier, frechet_distance, generation_quality, kernel_distance


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", transform="none")


@pytest.fixture(scope="module")
def judge(digits: Data) -> Classifier:
    return fit_classifier(digits, epochs=3, quiet=True)


def test_numbers_are_those_of_the_features(digits: Data, judge: Classifier) -> None:
    samples = torch.rand(120, 1, 8, 8)
    found = generation_quality(samples, digits, judge)
    test = digits.test.batch(torch.arange(len(digits.test))).x
    made, real = judge.features(samples), judge.features(test)
    assert found.frechet == pytest.approx(frechet_distance(made, real), rel=1e-6)
    assert (found.kernel, found.kernel_error) == pytest.approx(kernel_distance(made, real), rel=1e-6)
    beliefs = judge.log_probabilities(samples).exp()
    assert found.confidence == pytest.approx(beliefs.max(1).values.mean().item(), rel=1e-5)
    shares = torch.bincount(beliefs.argmax(1), minlength=10) / 120
    assert found.entropy == pytest.approx(-torch.special.xlogy(shares, shares).sum().item(), rel=1e-5, abs=1e-9)
    assert (found.samples, found.test, found.classes, found.accuracy) == (120, len(test), 10, judge.accuracy)


def test_real_images_are_good_and_noise_is_not(digits: Data, judge: Classifier) -> None:
    valid = digits.valid.batch(torch.arange(len(digits.valid))).x
    real = generation_quality(valid, digits, judge)
    assert real.real.images == len(valid)
    # All validation images, in whatever order, are the reference itself.
    assert (real.frechet, real.kernel) == pytest.approx((real.real.frechet, real.real.kernel), rel=1e-4)
    assert abs(real.kernel) < 4 * real.kernel_error
    assert real.entropy > 0.97 * math.log(10)
    shuffled = valid.flatten(1)[:, torch.randperm(64)].view_as(valid)
    noise = generation_quality(shuffled, digits, judge)
    assert noise.frechet > 5 * real.frechet
    assert noise.kernel > real.kernel + 5 * (noise.kernel_error + real.kernel_error)
    assert noise.confidence < real.confidence - 0.1


def test_one_class_alone_is_not_diverse(digits: Data, judge: Classifier) -> None:
    assert digits.train.labels is not None
    threes = (digits.train.labels == 3).nonzero()[:, 0]
    found = generation_quality(digits.train.batch(threes).x, digits, judge)
    assert found.entropy < 0.4
    assert found.confidence > 0.7
    assert found.kernel > 5 * found.kernel_error
    assert found.real.images == len(threes)  # as many of them


def test_the_same_each_time_and_nothing_else_is_touched(judge: Classifier) -> None:
    binary = load_data("digits")  # binarised at random each time
    samples = torch.rand(100, 1, 8, 8).round()
    before = torch.get_rng_state()
    first = generation_quality(samples, binary, judge)
    assert torch.equal(before, torch.get_rng_state())
    assert generation_quality(samples, binary, judge) == first
    assert generation_quality(samples, binary, judge, seed=1) != first


def test_what_to_mind_is_said(digits: Data, judge: Classifier) -> None:
    (warning,) = generation_quality(torch.rand(50, 1, 8, 8), digits, judge).warnings
    assert "Fréchet distance of 50 samples and of 50 real images" in warning
    binary = load_data("digits")
    grey, draws = torch.rand(50, 1, 8, 8), torch.rand(50, 1, 8, 8).round()
    assert "not seen grey" in generation_quality(grey, binary, judge).warnings[-1]
    assert len(generation_quality(draws, binary, judge).warnings) == 1


def test_table_and_dictionary_hold_the_numbers(digits: Data, judge: Classifier) -> None:
    found = generation_quality(torch.rand(30, 1, 8, 8), digits, judge)
    rows = {name: (value, meaning) for name, value, meaning in found.table()}
    assert rows["Fréchet distance"][0] == f"{found.frechet:.2f}"
    assert f"real images {found.real.frechet:.2f}" in rows["Fréchet distance"][1]
    assert rows["confidence"][0] == f"{100 * found.confidence:.1f}%"
    assert "at most 2.303" in rows["diversity"][1]
    back = json.loads(json.dumps(found.to_dict()))
    assert back["real"]["kernel"] == found.real.kernel
    assert back["frechet"] == found.frechet


def test_impossible_samples(digits: Data, judge: Classifier) -> None:
    with pytest.raises(ValueError, match=r"got shape \(5, 8, 8\)"):
        generation_quality(torch.rand(5, 8, 8), digits, judge)
    with pytest.raises(ValueError, match="three or more"):
        generation_quality(torch.rand(2, 1, 8, 8), digits, judge)
    with pytest.raises(ValueError, match="NaN"):
        generation_quality(torch.full((5, 1, 8, 8), torch.nan), digits, judge)
