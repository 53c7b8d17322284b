"""What the scikit-learn faces of auto-encoders share: rows in and out, training by the loop of all models, files."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
import yaml
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from jensen.autoencoders import EncoderDecoder
from jensen.config import Config, DataConfig, NetConfig, TrainConfig
from jensen.config.columns import Column
from jensen.data.dataset import Dataset
from jensen.data.prepared import Data
from jensen.data.split import Split
from jensen.data.transform import Transform
from jensen.errors import CheckpointError, ConfigError
from jensen.objectives import Elbo, Objective
from jensen.sections import read_yaml
from jensen.training import DataFacts, Trainer, train
from jensen.training.fabric import make_fabric
from jensen.training.portable import Portable, portable_run, write_portable

__all__ = ["NeuralEstimator"]

Array = npt.NDArray[np.float64]

REAL = ("gaussian", "gaussian-learned", "gaussian-per-pixel", "laplace", "student-t", "table")
UNIT = ("bernoulli", "continuous-bernoulli")
VALUES_AT_ONCE = 2**22
"""float64 numbers that are on their way through the networks together: 32 MB a layer"""
FILE = "estimator.yaml"


class Stream(NamedTuple):
    """What `partial_fit` keeps from call to call."""

    objective: Objective
    optimiser: dict[str, Any] | None
    step: int


class NeuralEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An auto-encoder of rows. A subclass makes the model and the objective, and says what `score_samples` is.

    Networks learn in float32; what is asked of a fitted model is computed in float64, so that a row's result does not
    depend on the rows beside it.

    Attributes:
        model_: the trained `jensen.VAE` or `jensen.AutoEncoder`, of standardised rows.
        mean_, scale_: of each column, (D,): the model sees (x - mean_) / scale_. 0 and 1 where nothing is standardised.
        history_: a list for each thing that was logged, one entry an epoch (`jensen.train`); of the last fit.
        n_iter_: epochs made, or of `partial_fit` calls since the last `fit`.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    model_: EncoderDecoder
    mean_: Array
    scale_: Array
    history_: dict[str, list[float]]
    n_iter_: int
    _kind: ClassVar[type[EncoderDecoder]]
    _stream: Stream | None = None

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Train on the rows of `X` (N, D); the weights with the best score on the held-out rows are kept.

        After Ctrl-C the weights so far are kept, and the interruption goes on.

        Args:
            y: ignored.

        Raises:
            ValueError: fewer than two rows, values that the likelihood is not about, or an impossible argument.
            jensen.errors.NonFiniteError: the loss became NaN or infinite.
        """
        if hasattr(self, "model_"):  # if this fit fails, there is none
            del self.model_
        rows = self._array(X, reset=True, least=2)
        config, order = self._training(), np.random.RandomState(seed := self._begin()).permutation(len(rows))
        held = min(max(1, round(self.validation * len(rows))), len(rows) - 1)
        self._measure(rows[np.sort(order[held:])])
        objective, self._stream = self._objective(), None
        data = self._data(rows, torch.from_numpy(np.sort(order[held:])), torch.from_numpy(np.sort(order[:held])))
        with self._noise(seed):
            model = self._new(rows.shape[1])
            settings = config.model_dump(exclude_defaults=True)
            try:
                self.history_ = train(model, data, objective, seed=seed, quiet=not self.verbose, **settings)
            except KeyboardInterrupt:
                self.model_, self.history_, self.n_iter_ = model.cpu().eval(), {}, 0
                raise
        self.model_, self.n_iter_ = model, len(self.history_["epoch"])
        return self

    def partial_fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Go on learning from more rows (N, D): one pass of gradient steps over them, as one of a stream would.

        Mean and standard deviation of the columns are those of the first call (or of `fit`), which should therefore be
        large and typical; state of the optimiser and of the objective's schedules is kept from call to call. The rows
        go into equal batches, and what does not divide (fewer rows than batches) is left out, drawn anew. Nothing is
        held out, no weights are chosen, and what was learned from rows long ago fades: this is gradient descent on a
        stream, not an update of a posterior, so there is no `total_size`. After `fit` or loading, the optimiser begins
        anew.

        Raises:
            ValueError: rows of another width, or values that the likelihood is not about.
        """
        fitted = hasattr(self, "model_")
        rows = self._array(X, reset=not fitted, least=1)
        config = self._training()
        if not fitted:
            self._start(rows)
        if self._stream is None:
            self._stream, self.n_iter_ = Stream(self._objective(), None, 0), 0
        objective, state, step = self._stream
        # As many equal batches as it takes: training leaves out a last one that is smaller.
        size = len(rows) // math.ceil(len(rows) / config.batch_size)
        # What the loop looks at after an epoch are the same rows, once more.
        data = self._data(np.concatenate([rows, rows]), *torch.arange(2 * len(rows)).chunk(2))
        with self._noise(self.seed_):
            trainer = Trainer(
                self.model_,
                data,
                objective,
                config.model_copy(update={"epochs": 1, "batch_size": size, "patience": None}),
                make_fabric(config.model_copy(update={"batch_size": size})),
                seed=(self.seed_ + 7_919 * step) % 2**62,
                folder=None,
                quiet=True,
                on_epoch=lambda _: None,
            )
            if state is not None:
                trainer.bare_optimiser.load_state_dict(state)
            trainer.position.step = step
            trainer.run()
        self.model_.cpu().eval()
        optimiser = copy.deepcopy(trainer.bare_optimiser.state_dict())
        self._stream = Stream(objective, optimiser, trainer.position.step)
        self.n_iter_ += 1
        return self

    def _start(self, rows: Array) -> None:
        """A model that has learned nothing, for a stream that begins with these rows."""
        seed = self._begin()
        self._measure(rows)
        with self._noise(seed):
            self.model_, self.history_, self.n_iter_ = self._new(rows.shape[1]), {}, 0

    def _begin(self) -> int:
        """Check the arguments that no configuration checks, and draw the seed of what follows, which is kept."""
        if self.likelihood not in REAL + UNIT:
            raise ValueError(f"likelihood should be one of {', '.join(REAL + UNIT)}, got {self.likelihood!r}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation should be a share between 0 and 1, got {self.validation!r}")
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self.seed_

    def _training(self) -> TrainConfig:
        return TrainConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            patience=self.patience,
            accelerator=self.accelerator,
        )

    def _measure(self, rows: Array) -> None:
        """Mean and standard deviation of the columns, over what is known."""
        width = rows.shape[1]
        self.mean_, self.scale_ = np.zeros(width), np.ones(width)
        if self.standardise and self.likelihood in REAL:
            known = ~np.isnan(rows)
            count = np.maximum(known.sum(0), 1)
            self.mean_ = np.where(known, rows, 0).sum(0) / count
            away = np.where(known, rows - self.mean_, 0)
            largest = np.abs(away).max(0)
            unit = np.where(largest > 0, largest, 1)  # squares of very large or small numbers would not fit
            sd = unit * np.sqrt(np.square(away / unit).sum(0) / count)
            # What is constant but for the last digits, as its mean may be, has no spread.
            self.scale_ = np.where(sd > 100 * np.finfo(float).eps * np.abs(self.mean_), sd, 1.0)

    def _new(self, width: int) -> EncoderDecoder:
        return self._kind(
            (width,),
            self.latent,
            net=NetConfig(kind="mlp", width=self.width, depth=self.depth),
            likelihood=self.likelihood,
            levels=self._levels,
            columns=self._columns(width),
        )

    @property
    def _levels(self) -> int | None:
        return 2 if self.likelihood == "bernoulli" else None

    def _columns(self, width: int) -> tuple[Column, ...]:
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(width)])
        return tuple(Column(name=str(name)) for name in names) if self.likelihood == "table" else ()

    def _objective(self) -> Objective:
        return Elbo()

    def _data(self, rows: Array, train_rows: Tensor, valid_rows: Tensor) -> Data:
        """Rows as training and validation data, standardised. The loop has no use for a test split: one row, twice."""
        values = torch.cat([self._standardised(rows), torch.zeros(1, rows.shape[1])])
        test = torch.tensor([len(rows)])
        columns = self._columns(rows.shape[1])
        dataset = Dataset("rows", values, (rows.shape[1],), None, train_rows, valid_rows, test, columns=columns)

        def split(places: Tensor) -> Split:
            seen = Transform("none", None)
            return Split(values, places, seen, dataset.shape, self._levels, gaps=bool(columns))

        return Data(dataset, split(train_rows), split(valid_rows), split(test), DataConfig(name="rows"))

    def _standardised(self, rows: Array) -> Tensor:
        return torch.from_numpy(((rows - self.mean_) / self.scale_).astype(np.float32))

    @contextmanager
    def _noise(self, seed: int) -> Iterator[None]:
        """Within it torch's own generator has this seed; afterwards it is where it was."""
        with torch.random.fork_rng([] if self.accelerator == "cpu" else range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield

    # --- what was learned -------------------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent

    def transform(self, X: npt.ArrayLike) -> Array:
        """The code of each row, (N, latent); of a VAE the mean of its posterior."""
        model, pieces = self._asked(X)
        return np.concatenate([model.encode(x).numpy() for x in pieces])

    def inverse_transform(self, Z: npt.ArrayLike) -> Array:
        """The mean of p(x | z) of each code (N, latent), (N, D) in the columns' own units."""
        check_is_fitted(self, "model_")
        codes = check_array(Z, dtype=np.float64)
        if codes.shape[1] != self.model_.latent:
            raise ValueError(f"codes should have {self.model_.latent} columns each, got {codes.shape[1]}")
        model = self._exact()
        return np.concatenate([self._own(model.decode(z)) for z in self._pieces(torch.from_numpy(codes))])

    @torch.no_grad()
    def score_samples(self, X: npt.ArrayLike) -> Array:
        """See the subclass; nats a row, (N,)."""
        model, pieces = self._asked(X)
        log_scale = torch.from_numpy(np.log(self.scale_))  # a density of x is that of (x - mean) / scale over scale
        scored = [self._log_density(model, x) - (~x.isnan()).double() @ log_scale for x in pieces]
        array: Array = torch.cat(scored).numpy()
        return array

    def score(self, X: npt.ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples`, nats a row: higher is better."""
        return float(self.score_samples(X).mean())

    @abstractmethod
    def _log_density(self, model: Any, x: Tensor) -> Tensor:
        """Of standardised rows (N, D), nats, (N,)."""

    def _asked(self, X: npt.ArrayLike) -> tuple[EncoderDecoder, Iterator[Tensor]]:
        check_is_fitted(self, "model_")
        rows = self._array(X, reset=False, least=1)
        return self._exact(), self._pieces(torch.from_numpy((rows - self.mean_) / self.scale_))

    def _exact(self) -> EncoderDecoder:
        """The model in float64."""
        return copy.deepcopy(self.model_).double().requires_grad_(False)

    def _pieces(self, values: Tensor) -> Iterator[Tensor]:
        return iter(values.split(max(1, VALUES_AT_ONCE // self._numbers_a_row())))

    def _numbers_a_row(self) -> int:
        return max(int(self.n_features_in_), self.model_.latent, int(self.width))

    def _own(self, values: Tensor) -> Array:
        """Standardised rows in own units."""
        array: Array = values.numpy() * self.scale_ + self.mean_
        return array

    # --- rows -------------------------------------------------------------------------------------------------------

    def _array(self, X: npt.ArrayLike, *, reset: bool, least: int) -> Array:
        """X as float64 (N, D), checked; ValueError names the place of what is wrong."""
        finite: Any = "allow-nan" if self.likelihood == "table" else True
        options: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": finite, "ensure_min_samples": least}
        rows: Array = validate_data(self, X, reset=reset, **options)
        if self.likelihood in UNIT and not (inside := (rows >= 0) & (rows <= 1)).all():
            n, d = (int(i) for i in np.argwhere(~inside)[0])
            raise ValueError(
                f"likelihood {self.likelihood} is of values in [0, 1], but row {n}, column {d} is {rows[n, d]:g}: "
                "scale them, or use gaussian-learned"
            )
        return rows

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.likelihood == "table"
        return tags

    # --- files ------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, replace: bool = False) -> Path:
        """Write the model and the settings to a folder that `load` reads, and `jensen.load`, and `jensen sample`.

        Args:
            folder: should not exist, or be empty.
            replace: write over an estimator that was saved there before.

        Raises:
            sklearn.exceptions.NotFittedError: there is nothing to save yet.
            ConfigError: the folder is taken.
        """
        check_is_fitted(self, "model_")
        assert self.model_.config is not None
        plain = (int, float, str, bool, type(None))
        given = {
            name: value.item() if isinstance(value, np.generic) else value  # a grid of numpy's numbers sets such
            for name, value in self.get_params(deep=False).items()
        }
        arguments = {name: value for name, value in given.items() if isinstance(value, plain)}
        said: dict[str, Any] = {
            "estimator": type(self).__name__,
            "arguments": arguments,
            "seed": self.seed_,
            "n_iter": self.n_iter_,
            "history": self.history_,
        }
        if hasattr(self, "feature_names_in_"):
            said["feature_names_in"] = self.feature_names_in_.tolist()
        shape = (self.n_features_in_,)
        scale: dict[str, Any] = {}
        if self.mean_.any() or (self.scale_ != 1).any():  # as it was fitted, whatever the arguments are by now
            scale = {"mean": tuple(self.mean_.tolist()), "sd": tuple(self.scale_.tolist())}
        facts = DataFacts(shape, shape, self._levels, (), columns=self._columns(shape[0]), **scale)
        config = Config(data=DataConfig(name="rows", transform="none"), model=self.model_.config)
        text = yaml.safe_dump(said, sort_keys=False, explicit_end=True)
        parts = Portable(config, facts, self.model_.state_dict(), extra={FILE: text})
        return write_portable(Path(folder), parts, replace=replace)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """An estimator as `save` wrote it, ready to predict.

        Raises:
            CheckpointError: missing, damaged or foreign files, or those of another estimator.
        """
        run = portable_run(Path(folder))
        if not (run.path / FILE).is_file():
            raise CheckpointError(f"{folder} holds a model, but no estimator: jensen.load reads it")
        try:
            said = read_yaml(run.path / FILE)
            if said["estimator"] != cls.__name__:
                raise CheckpointError(f"{folder} holds a {said['estimator']}, not a {cls.__name__}")
            estimator = cls(**said["arguments"])
            estimator.seed_, estimator.n_iter_ = int(said["seed"]), int(said["n_iter"])
            estimator.history_ = dict(said["history"])
            if "feature_names_in" in said:
                estimator.feature_names_in_ = np.asarray(said["feature_names_in"], dtype=object)
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{run.path / FILE} is damaged ({error})") from None
        facts, model = run.own_facts, run.model()
        assert isinstance(model, EncoderDecoder)
        estimator.model_, estimator.n_features_in_ = model, facts.shape[0]
        estimator.mean_ = np.array(facts.mean or (0.0,) * facts.shape[0])
        estimator.scale_ = np.array(facts.sd or (1.0,) * facts.shape[0])
        return estimator
