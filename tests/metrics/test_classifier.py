"""The classifier that judges generated images: it learns, is the same each time, and is kept in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jensen.data import Data, load_data, prepare
from jensen.metrics import Classifier, classifier, fit_classifier
from jensen.metrics.classifier import FEATURES


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", transform="none")


@pytest.fixture(scope="module")
def few() -> Data:
    return load_data("digits", transform="none", limit=150)


@pytest.fixture(scope="module")
def learned(digits: Data) -> Classifier:
    return fit_classifier(digits, epochs=4, quiet=True)


def weights(net: Classifier) -> list[Tensor]:
    return list(net.state_dict().values())


def same(a: Classifier, b: Classifier) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_it_learns_the_digits(learned: Classifier, digits: Data) -> None:
    assert learned.accuracy > 0.93
    batch = digits.test.batch(torch.arange(len(digits.test)))
    guess = learned.log_probabilities(batch.x).argmax(1)
    assert learned.accuracy == pytest.approx((guess == batch.label).float().mean().item())
    assert learned.classes == 10
    assert not learned.training


def test_features_are_what_the_last_layer_sees(
    learned: Classifier, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = digits.test.batch(torch.arange(50)).x
    features, beliefs = learned.features(x), learned.log_probabilities(x)
    assert features.shape == (50, FEATURES)
    torch.testing.assert_close(learned.head(features).log_softmax(1), beliefs)
    torch.testing.assert_close(beliefs.exp().sum(1), torch.ones(50))
    monkeypatch.setattr(classifier, "AT_ONCE", 7)
    learned.train()  # batch statistics would depend on the pieces
    torch.testing.assert_close(learned.features(x), features)
    assert learned.training
    learned.eval()


def test_a_seed_decides_everything(few: Data) -> None:
    before = torch.get_rng_state()
    first = fit_classifier(few, epochs=1, seed=3, quiet=True)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    assert same(first, fit_classifier(few, epochs=1, seed=3, quiet=True))
    assert not same(first, fit_classifier(few, epochs=1, seed=4, quiet=True))


def test_it_is_kept_in_a_file(few: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit_classifier(few, epochs=1, quiet=True, cache=tmp_path / "new")
    (path,) = (tmp_path / "new").iterdir()
    assert path.suffix == ".safetensors"
    learn, times = classifier._learn, []

    def counted(*arguments: object) -> None:
        times.append(1)
        learn(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classifier, "_learn", counted)
    again = fit_classifier(few, epochs=1, quiet=True, cache=path.parent)
    assert times == []
    assert same(first, again)
    assert again.accuracy == first.accuracy
    assert not again.training
    # Another setting, transform, or choice of data is another classifier.
    others = [(few, {"epochs": 2}), (few, {"seed": 1})]
    others += [(load_data("digits", limit=150), {}), (load_data("digits", transform="none", limit=140), {})]
    for n, (data, changes) in enumerate(others, 1):
        fit_classifier(data, quiet=True, cache=path.parent, **{"epochs": 1, **changes})  # type: ignore[arg-type]
        assert len(times) == n
    assert len(list(path.parent.iterdir())) == 5


def test_other_images_under_the_same_name_are_other_data(few: Data, tmp_path: Path) -> None:
    assert isinstance(few.dataset.values, Tensor)
    inverse = prepare(replace(few.dataset, values=16 - few.dataset.values), few.config)
    for data in (few, inverse):
        fit_classifier(data, epochs=1, quiet=True, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_written_anew(few: Data, tmp_path: Path) -> None:
    first = fit_classifier(few, epochs=1, quiet=True, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert same(first, fit_classifier(few, epochs=1, quiet=True, cache=tmp_path))
    assert path.read_bytes() == whole


def test_it_says_how_it_gets_on_unless_quiet(few: Data, capsys: pytest.CaptureFixture[str]) -> None:
    fit_classifier(few, epochs=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["classifier: epoch 1/2", "classifier: epoch 2/2"]
    fit_classifier(few, epochs=1, quiet=True)
    assert capsys.readouterr().err == ""


def test_noise_in_the_input_is_not_learned_from() -> None:
    """A model that takes noise away is judged by clean images."""
    clean, noisy = (load_data("digits", transform="none", limit=150, corruption=name) for name in ("none", "gaussian"))
    assert same(fit_classifier(clean, epochs=1, quiet=True), fit_classifier(noisy, epochs=1, quiet=True))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 5, 9), (1, 64, 48), (1, 1, 3)])
def test_images_of_any_size(shape: tuple[int, int, int]) -> None:
    net = Classifier(shape, 4)
    net(torch.rand(6, *shape)).square().sum().backward()
    assert net(torch.rand(6, *shape)).shape == (6, 4)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_data_without_images_or_classes_are_refused(few: Data) -> None:
    with pytest.raises(ValueError, match=r"iris has shape \(4,\)"):
        fit_classifier(load_data("iris"))
    with pytest.raises(ValueError, match="digits has none"):
        fit_classifier(prepare(replace(few.dataset, labels=None, class_names=()), few.config))
    assert few.dataset.labels is not None
    one = replace(few.dataset, labels=torch.zeros_like(few.dataset.labels), class_names=())
    with pytest.raises(ValueError, match="at least two classes"):
        fit_classifier(prepare(one, few.config))
    with pytest.raises(ValueError, match="got 0"):
        fit_classifier(few, epochs=0)
    net = Classifier((1, 8, 8), 2)
    for images in (torch.rand(3, 8, 8), torch.rand(0, 1, 8, 8)):
        with pytest.raises(ValueError, match="images should have shape"):
            net.features(images)
