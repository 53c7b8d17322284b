"""The scikit-learn faces of auto-encoders."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

import jensen
from jensen.errors import CheckpointError, ConfigError, NonFiniteError
from jensen.estimators import AutoEncoderEstimator, VAEEstimator

FACES = (VAEEstimator, AutoEncoderEstimator)
TINY: dict[str, Any] = {"latent": 2, "width": 8, "depth": 1, "epochs": 2}
T = np.random.default_rng(0).uniform(-2, 2, 200)
NOISE = 0.1 * np.random.default_rng(1).normal(size=(200, 3))
ROWS = (np.column_stack([T, T**2, np.sin(2 * T)]) + NOISE) * [1, 10, 100] + [100, 0, -5]
"""along a curve"""
WIDE = T[:, None] * np.arange(1.0, 9) + np.random.default_rng(2).normal(size=(200, 8)) * 0.2 + 10
"""along a line, which a code of one number tells much of"""


@pytest.mark.parametrize("face", FACES)
def test_scikit_learns_own_checks(face: type[VAEEstimator]) -> None:
    results = check_estimator(face(**TINY), on_skip=None)
    assert len(results) > 40
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert sum(result["status"] == "skipped" for result in results) <= 1  # the array API, where it is not switched on


@pytest.mark.parametrize("face", FACES)
def test_arguments_are_kept_as_they_are(face: type[VAEEstimator]) -> None:
    estimator = face(latent=3, likelihood="laplace", patience=None)
    assert clone(estimator).get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        estimator.transform(ROWS)


def linear_gaussian(seed: int = 0) -> tuple[VAEEstimator, np.ndarray]:
    """A fitted estimator whose networks are made linear, with the exact posterior, and the covariance of its rows."""
    estimator = VAEEstimator(**TINY, random_state=seed, standardise=True).fit(ROWS)
    weight, sigma = torch.tensor([[1.0, 0.5], [0.0, 2.0], [-1.0, 0.3]], dtype=torch.float64), 0.5
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ weight / sigma**2
    # q is factorised: take a rotation of z in which the posterior is, too.
    weight = weight @ torch.linalg.eigh(precision)[1]
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ weight / sigma**2
    spread = precision.diagonal().rsqrt()

    class Exact(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.distributions.Normal:
            mean = x @ weight.to(x) / sigma**2 @ torch.linalg.inv(precision).to(x)
            return torch.distributions.Normal(mean, spread.to(x).expand_as(mean))

    class Linear(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z @ weight.T.to(z)

    model = jensen.VAE((3,), 2, encoder=nn.Linear(3, 4), decoder=Linear(), likelihood="gaussian", sigma=sigma)
    model.encoder = Exact()
    estimator.model_ = model
    covariance = (weight @ weight.T).numpy() + sigma**2 * np.eye(3)
    return estimator, covariance * np.outer(estimator.scale_, estimator.scale_)


@pytest.mark.parametrize("samples", [1, 50])
def test_scores_are_log_densities_in_own_units(samples: int) -> None:
    """With the exact posterior every importance weight is p(x), whatever the draws: probabilistic PCA's density."""
    estimator, covariance = linear_gaussian()
    estimator.set_params(samples=samples)
    exact = multivariate_normal(estimator.mean_, covariance).logpdf(ROWS)
    np.testing.assert_allclose(estimator.score_samples(ROWS), exact, rtol=1e-6)
    assert estimator.score(ROWS) == pytest.approx(exact.mean())


def test_samples_have_the_moments_of_the_model() -> None:
    estimator, covariance = linear_gaussian()
    rows = estimator.sample(20_000, random_state=1)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((rows.mean(0) - estimator.mean_) / sd, np.zeros(3), atol=5 / 20_000**0.5)
    np.testing.assert_allclose(np.corrcoef(rows.T), covariance / np.outer(sd, sd), atol=0.03)
    np.testing.assert_allclose(rows.std(0), sd, rtol=0.03)
    np.testing.assert_array_equal(estimator.sample(3, random_state=2), estimator.sample(3, random_state=2))
    with pytest.raises(ValueError, match="at least 1"):
        estimator.sample(0)


def test_scores_of_an_auto_encoder_are_those_of_its_reconstructions() -> None:
    estimator = AutoEncoderEstimator(**TINY, random_state=0).fit(ROWS)
    restored = estimator.inverse_transform(estimator.transform(ROWS))
    sigma = estimator.model_.decoder(torch.zeros(1, 2)).stddev.flatten()[0].item()
    expected = norm(restored, sigma * estimator.scale_).logpdf(ROWS).sum(1)
    np.testing.assert_allclose(estimator.score_samples(ROWS), expected, rtol=1e-6)


def test_more_draws_say_more() -> None:
    """The bound rises with the number of draws, on average over them; and the same seed gives the same draws."""
    estimator = VAEEstimator(**{**TINY, "epochs": 20}, lr=1e-2, random_state=0).fit(WIDE)
    assert estimator.score(WIDE) == estimator.score(WIDE)
    gains = []
    for seed in range(60):
        estimator.seed_ = seed
        few, many = (estimator.set_params(samples=samples).score(WIDE[::10]) for samples in (1, 20))
        gains.append(many - few)
    assert np.mean(gains) > 3 * np.std(gains) / np.sqrt(len(gains))


def test_learning_helps_and_does_not_touch_other_generators() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    barely, well = (VAEEstimator(2, width=16, epochs=e, lr=1e-2, random_state=0).fit(WIDE) for e in (1, 30))
    assert well.score(WIDE) > barely.score(WIDE) + 1
    np.testing.assert_array_equal(torch.rand(4), expected)
    assert well.n_iter_ == len(well.history_["valid/elbo"]) <= 30
    again = VAEEstimator(2, width=16, epochs=1, lr=1e-2, random_state=0).fit(WIDE)
    np.testing.assert_array_equal(again.transform(WIDE), barely.transform(WIDE))


def test_beta_costs_nats_of_the_code() -> None:
    free, dear = (
        VAEEstimator(2, width=16, epochs=40, lr=1e-2, objective="beta", beta=beta, random_state=0).fit(ROWS)
        for beta in (0.1, 30.0)
    )
    assert np.var(dear.transform(ROWS)) < 0.1 * np.var(free.transform(ROWS))
    with pytest.raises(ValueError, match="beta has no meaning for elbo"):
        VAEEstimator(**TINY, beta=2.0).fit(ROWS)


@pytest.mark.parametrize("face", FACES)
def test_rows_of_a_stream(face: type[VAEEstimator]) -> None:
    """Statistics stay those of the first call, steps go on, and a pickle in between changes nothing."""
    settings = {"latent": 2, "width": 16, "lr": 1e-2, "batch_size": 64, "random_state": 0}
    stream = face(**settings).partial_fit(WIDE)
    mean, first = stream.mean_.copy(), stream.score(WIDE)
    assert stream._stream is not None
    assert stream._stream.step == 4  # of 50 rows each: with 64 the last 8 rows would be left out
    copy = pickle.loads(pickle.dumps(stream))
    for estimator in (stream, copy):
        for _ in range(10):
            estimator.partial_fit(WIDE)
        estimator.partial_fit(WIDE[:1] + 1000)
    np.testing.assert_array_equal(stream.mean_, mean)
    np.testing.assert_array_equal(stream.transform(WIDE), copy.transform(WIDE))
    assert stream.n_iter_ == 12
    assert stream._stream.step == 11 * 4 + 1  # so that schedules and the order of rows go on
    assert stream.score(WIDE) > first + 0.3


def test_a_stream_keeps_the_state_of_its_optimiser() -> None:
    """Adam's first step is as long as its learning rate for every weight, so a fresh one would go further."""
    stream = VAEEstimator(**TINY, batch_size=200, random_state=0, lr=1e-3)
    for _ in range(60):
        stream.partial_fit(ROWS)
    fresh = pickle.loads(pickle.dumps(stream))
    fresh._stream = None
    before = nn.utils.parameters_to_vector(stream.model_.parameters()).detach().clone()
    moved = []
    for estimator in (stream, fresh):
        estimator.partial_fit(ROWS)
        after = nn.utils.parameters_to_vector(estimator.model_.parameters()).detach()
        moved.append(float((after - before).abs().mean()))
    assert moved[0] < 0.8 * moved[1]
    assert moved[1] == pytest.approx(1e-3, rel=0.2)


def test_a_fit_begins_anew_and_a_stream_goes_on_from_it() -> None:
    estimator = VAEEstimator(**{**TINY, "epochs": 30}, lr=1e-2, random_state=0)
    once = estimator.fit(ROWS).transform(ROWS)
    fitted = estimator.score(ROWS)
    estimator.partial_fit(ROWS[:5])
    assert estimator.score(ROWS) == pytest.approx(fitted, abs=0.5)
    np.testing.assert_array_equal(estimator.fit(ROWS).transform(ROWS), once)


def test_held_out_rows_do_not_go_into_the_statistics() -> None:
    estimator = VAEEstimator(**{**TINY, "epochs": 1}, validation=0.4, random_state=0).fit(ROWS)
    order = np.random.RandomState(estimator.seed_).permutation(len(ROWS))
    learned = ROWS[order[80:]]
    np.testing.assert_allclose(estimator.mean_, learned.mean(0))
    np.testing.assert_allclose(estimator.scale_, learned.std(0))


def test_likelihoods_of_unit_values() -> None:
    bits = (np.random.default_rng(1).random((40, 4)) < 0.3).astype(float)
    estimator = VAEEstimator(**TINY, likelihood="bernoulli", random_state=0).fit(bits)
    every = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    # A distribution over 16 rows, which importance weights give but for their noise.
    assert np.exp(estimator.set_params(samples=5000).score_samples(every)).sum() == pytest.approx(1, abs=0.02)
    assert set(np.unique(estimator.sample(50, random_state=0))) <= {0.0, 1.0}
    restored = estimator.inverse_transform(estimator.transform(bits))
    assert 0 < restored.min() < restored.max() < 1
    with pytest.raises(ValueError, match="row 2, column 1 is 7"):
        estimator.transform(np.where(np.arange(160).reshape(40, 4) == 9, 7, bits))
    with pytest.raises(ValueError, match="likelihood should be one of"):
        VAEEstimator(**TINY, likelihood="categorical").fit(bits)


def test_gaps() -> None:
    """Likelihood table leaves them out; the others refuse them."""
    gaps = np.where(np.random.default_rng(0).random(ROWS.shape) < 0.2, np.nan, ROWS)
    with pytest.raises(ValueError, match="NaN"):
        VAEEstimator(**TINY).fit(gaps)
    for face in FACES:
        estimator = face(**{**TINY, "epochs": 20}, likelihood="table", random_state=0).fit(gaps)
        assert np.isfinite(estimator.transform(gaps)).all()
        assert np.isfinite(estimator.inverse_transform(estimator.transform(gaps))).all()
        nothing = np.full((1, 3), np.nan)
        assert estimator.score_samples(nothing)[0] == pytest.approx(0, abs=1e-9 if face is AutoEncoderEstimator else 1)
        streamed = face(**TINY, likelihood="table").partial_fit(gaps)
        np.testing.assert_allclose(streamed.mean_, np.nanmean(gaps, 0))
        np.testing.assert_allclose(streamed.scale_, np.nanstd(gaps, 0))
    checked = check_estimator(VAEEstimator(**TINY, likelihood="table"), on_fail=None)
    assert not [result["check_name"] for result in checked if result["status"] == "failed"]


def test_names_of_columns() -> None:
    estimator = VAEEstimator(**TINY, random_state=0).fit(ROWS)
    assert estimator.get_feature_names_out().tolist() == ["vaeestimator0", "vaeestimator1"]
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    frame = pandas.DataFrame(ROWS, columns=["a", "b", "c"])
    codes = VAEEstimator(**TINY, random_state=0).set_output(transform="pandas").fit_transform(frame)
    assert codes.columns.tolist() == ["vaeestimator0", "vaeestimator1"]


def test_in_a_pipeline_and_a_grid() -> None:
    x, y = load_iris(return_X_y=True)
    settings: dict[str, Any] = {"width": 16, "depth": 1, "epochs": 40, "lr": 1e-2, "batch_size": 32, "random_state": 0}
    pipeline = make_pipeline(StandardScaler(), VAEEstimator(2, **settings), LogisticRegression())
    assert pipeline.fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.75  # chance is a third
    grid = GridSearchCV(VAEEstimator(**settings), {"latent": [1, 2]}, cv=2, n_jobs=1).fit(x)
    assert set(grid.cv_results_["param_latent"]) == {1, 2}
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    assert grid.best_estimator_.transform(x).shape == (150, grid.best_params_["latent"])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_units_do_not_matter(scale: float) -> None:
    settings = {**TINY, "epochs": 5, "random_state": 0}
    plain, scaled = VAEEstimator(**settings).fit(ROWS), VAEEstimator(**settings).fit(scale * ROWS)
    np.testing.assert_allclose(scaled.transform(scale * ROWS), plain.transform(ROWS), rtol=1e-3, atol=1e-4)
    assert scaled.score(scale * ROWS) == pytest.approx(plain.score(ROWS) - 3 * np.log(scale), abs=1e-2)


def test_columns_that_never_change_and_few_rows() -> None:
    rows = np.column_stack([ROWS[:, 0], np.full(200, 7.3)])
    estimator = AutoEncoderEstimator(**TINY, random_state=0).fit(rows)
    assert estimator.scale_[1] == 1
    assert np.isfinite(estimator.transform(rows)).all()
    assert VAEEstimator(**TINY).fit(ROWS[:2]).transform(ROWS[:1]).shape == (1, 2)
    with pytest.raises(ValueError, match="1 sample"):
        VAEEstimator(**TINY).fit(ROWS[:1])
    unscaled = VAEEstimator(**TINY, standardise=False).fit(ROWS)
    assert unscaled.mean_.tolist() == [0, 0, 0]
    assert unscaled.scale_.tolist() == [1, 1, 1]


def test_what_was_learned_is_kept_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    from jensen.estimators import neural

    def interrupted(model: jensen.VAE, *_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    estimator = VAEEstimator(**TINY, random_state=0)
    monkeypatch.setattr(neural, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(ROWS)
    assert np.isfinite(estimator.transform(ROWS)).all()

    def lost(*_: Any, **__: Any) -> None:
        raise NonFiniteError("no more")

    monkeypatch.setattr(neural, "train", lost)
    with pytest.raises(NonFiniteError):
        estimator.fit(ROWS)
    with pytest.raises(NotFittedError):
        estimator.transform(ROWS)


def test_progress_only_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    VAEEstimator(**TINY).fit(ROWS)
    assert capsys.readouterr() == ("", "")
    VAEEstimator(**TINY, verbose=True).fit(ROWS)
    assert "epoch 2/2" in capsys.readouterr().err


@pytest.mark.parametrize("face", FACES)
def test_files(face: type[VAEEstimator], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    frame = pandas.DataFrame(ROWS, columns=["a", "b", "c"])
    estimator = face(**TINY, random_state=4).fit(frame)
    loaded = face.load(estimator.save(tmp_path / "model"))
    assert loaded.get_params() == estimator.get_params()
    assert (loaded.history_, loaded.n_iter_) == (estimator.history_, 2)
    for name in ("transform", "score_samples"):
        np.testing.assert_array_equal(getattr(loaded, name)(frame), getattr(estimator, name)(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame[["c", "b", "a"]])
    assert np.isfinite(loaded.partial_fit(frame).score(frame))
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    np.testing.assert_array_equal(joblib.load(buffer).transform(frame), estimator.transform(frame))
    # The same folder holds a model like any other.
    model = jensen.load(tmp_path / "model")
    standardised = torch.from_numpy((ROWS - estimator.mean_) / estimator.scale_).float()
    np.testing.assert_allclose(model.encode(standardised).detach(), estimator.transform(frame), atol=1e-5)
    other = AutoEncoderEstimator if face is VAEEstimator else VAEEstimator
    with pytest.raises(CheckpointError, match=f"holds a {face.__name__}, not a {other.__name__}"):
        other.load(tmp_path / "model")
    with pytest.raises(ConfigError, match="replace it"):
        estimator.save(tmp_path / "model")
    estimator.save(tmp_path / "model", replace=True)
    jensen.save(estimator.model_, tmp_path / "bare")
    with pytest.raises(CheckpointError, match="holds a model, but no estimator"):
        face.load(tmp_path / "bare")


def test_files_of_numbers_of_numpy_and_of_changed_arguments(tmp_path: Path) -> None:
    """A grid of numpy's numbers sets arguments of its types; and a model stands in the units that it was fitted in."""
    estimator = VAEEstimator(np.int64(2), width=8, depth=1, epochs=1, lr=np.float64(0.01), random_state=np.int64(3))
    codes = estimator.fit(ROWS).transform(ROWS)
    loaded = VAEEstimator.load(estimator.save(tmp_path / "numpy"))
    assert loaded.get_params() == estimator.get_params()
    assert type(loaded.latent) is int
    changed = VAEEstimator.load(estimator.set_params(standardise=False).save(tmp_path / "changed"))
    np.testing.assert_array_equal(changed.transform(ROWS), codes)


def test_no_draws() -> None:
    with pytest.raises(ValueError, match="samples should be at least 1, got 0"):
        VAEEstimator(**TINY, samples=0).fit(ROWS).score_samples(ROWS)
