"""report.html: one self-contained file from a run directory."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import torch

from jensen.autoencoders import VQVAE, AutoregressiveModel, EncoderDecoder
from jensen.files import write_text
from jensen.metrics import Evaluation
from jensen.report.choices import learn_prior
from jensen.report.further import MEASUREMENTS, further_notes, further_rows
from jensen.report.headline import headline, notes, summary
from jensen.report.html import Embedded, Row, embed, render
from jensen.report.material import Material, gather
from jensen.report.pictures import pictures
from jensen.training import PriorRun, Run

__all__ = ["write_report"]


def write_report(run: Run, evaluation: Evaluation | None = None, *, seed: int = 0) -> Path:
    """Write RUN/report.html, and its pictures to RUN/figures/report/; returns the page's path.

    One self-contained file: it loads nothing, so it can be sent and read offline. The page appears whole or not at
    all. The same run, evaluation and seed give the same page. Where the data cannot be found, the pictures that need
    them are left out and the page says so.

    Args:
        run: a run that has a checkpoint.
        evaluation: what `jensen.metrics.evaluate` found on the test split; None: RUN/evaluation.json where there is
            one, else the page says how to get it.
        seed: of all noise in the pictures; torch's global generator is left as it was.

    Raises:
        CheckpointError: the run has no checkpoint, or it is damaged.
    """
    split, more, warned = "test", list[Row](), list[str]()
    if evaluation is None:
        evaluation, split, more, warned = _saved_evaluation(run)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        material = gather(run)
        drawn = pictures(material, evaluation)
    remarks = [*notes(material, evaluation), *warned]
    page = _render(material, evaluation, split, more, remarks, embed(run.path / "figures" / "report", drawn))
    path = run.path / "report.html"
    write_text(path, page)
    return path


def _saved_evaluation(run: Run) -> tuple[Evaluation | None, str, list[Row], list[str]]:
    """RUN/evaluation.json, the split that it is about, and rows and warnings of what else was measured.

    None where there is no such file, or another version wrote it.
    """
    try:
        found = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
        split = str(found.pop("split", "test"))
        more = {name: found.pop(name) for name in MEASUREMENTS if name in found}
        return Evaluation(**found), split, further_rows(more), further_notes(more)
    except (OSError, ValueError, TypeError, AttributeError):
        return None, "test", [], []


def _render(
    material: Material,
    evaluation: Evaluation | None,
    split: str,
    more: list[Row],
    remarks: list[str],
    embedded: list[Embedded],
) -> str:
    return render(
        "report.html",
        name=material.run.path.resolve().name,
        summary=summary(material),
        evaluation=evaluation,
        split=split,
        rows=[] if evaluation is None else [*headline(evaluation, material), *more],
        notes=remarks,
        measures=_measures(material),
        evaluate=f"jensen evaluate {_quoted(material.run)}",
        report=f"jensen report {_quoted(material.run)}",
        pictures=embedded,
        configuration=_configuration(material.run),
        commands=_commands(material),
    )


def _quoted(run: Run) -> str:
    return shlex.quote(str(run.path))


def _configuration(run: Run) -> str:
    prior = run.prior
    return run.config.to_yaml() + ("" if prior is None else f"# of the prior over its codes\n{prior.config.to_yaml()}")


def _measures(material: Material) -> str:
    """What an evaluation would say."""
    if isinstance(material.model, VQVAE):
        return "its ELBO, rate and use of codes"
    if material.vae is not None or material.deep is not None:
        return "its ELBO, log-likelihood and active units"
    return "how well it predicts" if isinstance(material.model, EncoderDecoder) else "its log-likelihood"


def _commands(material: Material) -> list[tuple[str, str]]:
    """What a reader may want to do next: (purpose, command)."""
    run, path = material.run, _quoted(material.run)
    if run.finished:
        more = [("Train on", f"jensen train --resume {path} --epochs {2 * run.config.train.epochs}")]
    else:
        more = [("Go on where training stopped", f"jensen train --resume {path}")]
    commands = [*more, ("Evaluate on unseen data", f"jensen evaluate {path}")]
    if material.generates:
        commands += _drawing(material, path)
    if material.vae is not None:
        knows = " --disentanglement" if material.train is not None and material.train.factors is not None else ""
        commands.append(("Ask what the latents know", f"jensen evaluate {path} --samples 100 --information{knows}"))
    if learn := learn_prior(material):
        commands.insert(1, ("Learn which codes go together", learn))
    elif isinstance(material.model, VQVAE) and run.prior is not None:
        commands.insert(1, _on_with(run.prior, path))
    if (
        material.generates
        and material.image
        and run.facts.class_names
        and isinstance(material.model, VQVAE | AutoregressiveModel)
    ):
        commands.append(("Set samples beside real images", f"jensen evaluate {path} --samples 100 --quality"))
    if material.predicts is None and isinstance(material.model, EncoderDecoder):
        commands.append(("Reconstruct test data", f"jensen reconstruct {path}"))
        if len(run.facts.shape) == 3 and material.told != "part":
            commands.append(("Walk from test example 0 to 1", f"jensen interpolate {path} 0 1"))
        commands.append(("Compress data to codes", f"jensen encode {path} --split test -o codes.npz"))
    return [*commands, ("Write this page anew", f"jensen report {path}")]


def _on_with(prior: PriorRun, path: str) -> tuple[str, str]:
    """How a prior over codes goes on."""
    if prior.finished:
        return "Train the prior on", f"jensen train prior --resume {path} --epochs {2 * prior.config.train.epochs}"
    return "Go on where training of the prior stopped", f"jensen train prior --resume {path}"


def _drawing(material: Material, path: str) -> list[tuple[str, str]]:
    """How to draw from the prior, given what the model is told."""
    facts = material.run.facts
    if material.told == "part":
        return [("Fill in the hidden part of test images", f"jensen inpaint {path}")]
    if material.told == "label":
        first = shlex.quote(facts.condition_names[0])
        found = [
            ("Draw new data of every class", f"jensen sample {path}"),
            ("Draw new data of one class", f"jensen sample {path} --label {first} --number 64"),
        ]
        if not material.only_prior_told:
            found.append(("Ask whether the class is heard", f"jensen evaluate {path} --samples 100 --classify"))
        return [*found, *_typical(material, path)]
    if material.told == "properties":
        middle = zip(facts.condition_names, facts.condition_mean, strict=True)
        words = shlex.quote(",".join(f"{name}={mean:.3g}" for name, mean in middle))
        return [("Draw new data with chosen properties", f"jensen sample {path} --attributes {words}")]
    if material.told == "image":
        return []
    where = "the prior" if material.model.latent else "the model"
    where = "uniform codes, decoded" if learn_prior(material) else where
    return [(f"Draw new data from {where}", f"jensen sample {path} --number 64"), *_typical(material, path)]


def _typical(material: Material, path: str) -> list[tuple[str, str]]:
    """What can be asked for where values or codes are drawn one after the other."""
    model = material.model
    one_by_one = model.code_prior is not None if isinstance(model, VQVAE) else not model.latent
    return [("Leave out what is least probable", f"jensen sample {path} --top-p 0.95")] if one_by_one else []
