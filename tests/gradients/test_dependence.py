"""Following latents through a log joint: never less than what changing them shows, and no more in common cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from dependence_oracle import COLUMNS, COMPONENTS, LATENT_PLATES, ROWS, F, Program, data, followed, uncovered
from torch import Tensor, nn
from torch import distributions as D

from jensen.gradients.dependence import trace

A, M = "aligned", "mixed"
BATCH = data(torch.Generator().manual_seed(3))
NET = nn.Sequential(nn.Linear(COLUMNS, 4), nn.Tanh(), nn.Linear(4, 1)).double()

TIGHT: dict[str, tuple[Program, dict[str, str]]] = {
    # indices
    "a global table by a local index": (lambda v, d: v["mu"][v["z"]].sum(-1), {"z": A, "mu": M}),
    "after a cast": (lambda v, d: v["mu"][v["b"].long()].sum(-1), {"b": A, "mu": M}),
    "a table of constants": (lambda v, d: torch.arange(3.0)[v["z"]], {"z": A}),
    "a column by a global index": (lambda v, d: v["w"][:, v["j"].clamp(max=1)], {"w": A, "j": M}),
    "two indices": (lambda v, d: v["mu"][v["z"], v["b"].long()], {"z": A, "b": A, "mu": M}),
    "its own row": (lambda v, d: v["w"][torch.arange(ROWS), v["b"].long()], {"w": A, "b": A}),
    "with an ellipsis": (lambda v, d: v["mu"].T[..., v["z"]].sum(0), {"z": A, "mu": M}),
    "with None": (lambda v, d: v["mu"][None, v["z"], :].sum((0, 2)), {"z": A, "mu": M}),
    "a table with a plate": (lambda v, d: v["m"][v["z"]], {"z": A, "m": M}),
    "data as index": (lambda v, d: v["m"][d["c"]], {"m": M}),
    "gather": (lambda v, d: d["y"].gather(1, v["b"].long()[:, None])[:, 0], {"b": A}),
    "gather from a latent": (lambda v, d: v["w"].gather(-1, v["b"].long()[:, None])[:, 0], {"b": A, "w": A}),
    "gather along the plate": (lambda v, d: v["w"].gather(0, v["z"][:, None])[:, 0], {"z": A, "w": M}),
    "take_along_dim": (lambda v, d: torch.take_along_dim(v["mu"], v["z"][:, None], 0).sum(1), {"z": A, "mu": M}),
    "index_select": (lambda v, d: v["mu"].index_select(0, v["z"]).sum(1), {"z": A, "mu": M}),
    "embedding": (lambda v, d: nnf.embedding(v["z"], v["mu"]).sum(1), {"z": A, "mu": M}),
    "one_hot": (lambda v, d: (nnf.one_hot(v["z"], 3).to(F) @ v["mu"]).sum(1), {"z": A, "mu": M}),
    "an index that happens to be in order": (
        lambda v, d: v["m"][(torch.arange(COMPONENTS) + (v["s"] > 99).long()) % COMPONENTS],
        {"m": M, "s": M},
    ),
    # comparisons, branches without control flow
    "comparison": (lambda v, d: (v["z"] == 1).to(F) * v["s"], {"z": A, "s": M}),
    "where": (lambda v, d: torch.where(v["b"] > 0, v["s"], d["n"]), {"b": A, "s": M}),
    "masked_fill": (lambda v, d: d["n"].masked_fill(v["z"] == 2, 0.5), {"z": A}),
    "clamp with a tensor": (lambda v, d: d["n"].clamp(min=v["w"][:, 0]), {"w": A}),
    # arithmetic, shapes
    "operators": (lambda v, d: 1 / (2 - v["w"][:, 0]) + 2 ** v["b"] - abs(-v["b"]), {"w": A, "b": A}),
    "floor division": (lambda v, d: v["z"] // 2 + v["z"] % 2 + (3 - v["z"]) ** 2, {"z": A}),
    "logical": (lambda v, d: ((v["z"] > 0) & ~(v["b"] > 0) | (v["z"] == v["j"])).to(F), {"z": A, "b": A, "j": M}),
    "broadcast": (lambda v, d: v["w"][:, None, 0] + v["m"], {"w": A, "m": A}),
    "transposed": (lambda v, d: (v["m"][:, None] * v["b"]).T, {"m": A, "b": A}),
    "its first element": (lambda v, d: v["b"][:1] * d["n"], {"b": M}),
    "against itself": (lambda v, d: (v["b"][:, None] * v["b"]).sum(1), {"b": M}),
    "shift": (lambda v, d: torch.cat([v["b"][:1], v["b"][1:] - v["b"][:-1]]), {"b": M}),
    "views": (lambda v, d: v["w"].reshape(ROWS, 1, COLUMNS).flatten(1).unsqueeze(0).squeeze(0).mT[0], {"w": A}),
    "view through another shape": (lambda v, d: v["w"].view(-1).view(ROWS, COLUMNS)[:, 1], {"w": M}),
    "expand": (lambda v, d: v["b"][:, None].expand(-1, 3) + v["s"].expand(3), {"b": A, "s": M}),
    "stack": (lambda v, d: torch.stack([v["b"], d["n"], v["w"][:, 0]], 1).sum(1), {"b": A, "w": A}),
    "cat": (lambda v, d: torch.cat([v["b"][:, None], v["w"]], -1).amax(-1), {"b": A, "w": A}),
    "broadcast_tensors": (lambda v, d: torch.broadcast_tensors(v["b"], v["s"])[0], {"b": A}),
    "unbind": (lambda v, d: v["w"].unbind(1)[0] + v["w"].chunk(2, 1)[1][:, 0], {"w": A}),
    "iteration over columns": (lambda v, d: sum(column for column in v["w"].T), {"w": A}),
    "movedim": (lambda v, d: v["w"].movedim(0, 1).permute(1, 0).T[0], {"w": A}),
    # reductions and what goes along a dimension
    "sum over columns": (lambda v, d: v["w"].sum(1) + v["w"].sum(dim=-1) + v["w"].mean((1,)), {"w": A}),
    "sum over rows": (lambda v, d: v["w"].sum(0), {"w": M}),
    "sum over all": (lambda v, d: v["w"].sum() + v["b"].mean(), {"w": M, "b": M}),
    "keepdim": (lambda v, d: (v["w"] - v["w"].mean(-1, keepdim=True)).prod(-1), {"w": A}),
    "logsumexp": (lambda v, d: (v["w"] * v["s"]).logsumexp(-1), {"w": A, "s": M}),
    "max": (lambda v, d: v["w"].max(-1).values + torch.max(v["b"], d["n"]) + v["w"].argmax(1), {"w": A, "b": A}),
    "variance, norm": (
        lambda v, d: v["w"].var(-1) + v["w"].norm(dim=-1) + torch.linalg.vector_norm(v["w"], dim=1),
        {"w": A},
    ),
    "softmax": (lambda v, d: v["w"].softmax(-1)[:, 0] + nnf.log_softmax(v["w"], dim=1)[:, 1], {"w": A}),
    "softmax over rows": (lambda v, d: v["w"].softmax(0)[:, 0], {"w": M}),
    "cumsum": (lambda v, d: v["w"].cumsum(1)[:, 1] + v["w"].sort(-1).values[:, 0], {"w": A}),
    "cumsum over rows": (lambda v, d: v["b"].cumsum(0), {"b": M}),
    "sort over rows": (lambda v, d: v["w"][:, 0].sort()[0], {"w": M}),
    "flip of rows": (lambda v, d: v["b"].flip(0), {"b": M}),
    # products
    "matmul": (lambda v, d: d["y"] @ v["w"].T @ torch.ones(ROWS, dtype=F), {"w": M}),
    "matrix by vector": (lambda v, d: v["w"] @ v["mu"][0], {"w": A, "mu": M}),
    "linear": (lambda v, d: nnf.linear(v["w"], v["mu"], v["m"])[:, 0], {"w": A, "mu": M, "m": M}),
    "linear with a plate of outputs": (lambda v, d: nnf.linear(d["y"], v["mu"], v["m"]), {"mu": M, "m": A}),
    "einsum": (lambda v, d: torch.einsum("nd,kd,k->nk", v["w"], v["mu"], v["m"]), {"w": A, "mu": M, "m": A}),
    "einsum over rows": (lambda v, d: torch.einsum("nd,n->d", v["w"], v["b"]), {"w": M, "b": M}),
    "outer": (lambda v, d: torch.outer(v["b"], v["m"]), {"b": A, "m": A}),
    "module": (lambda v, d: NET(v["w"])[:, 0], {"w": A}),
    "cross entropy": (
        lambda v, d: nnf.cross_entropy(v["mu"][v["z"]], v["b"].long(), reduction="none"),
        {"z": A, "b": A, "mu": M},
    ),
    "binary cross entropy": (
        lambda v, d: nnf.binary_cross_entropy_with_logits(v["w"], (d["y"] > 0).to(F), reduction="none").sum(1),
        {"w": A},
    ),
    "a loss that is reduced": (lambda v, d: nnf.mse_loss(v["b"], d["n"]), {"b": M}),
    # in place
    "added in place": (lambda v, d: torch.zeros_like(v["b"]).add_(v["b"]).mul_(v["s"]), {"b": A, "s": M}),
    "mask in place": (lambda v, d: _masked(v), {"b": A}),
    "elements in place": (lambda v, d: _elements(v), {"b": M}),
    # values that stay inside
    "detach": (lambda v, d: v["b"].detach() + v["w"][:, 0].data, {"b": A, "w": A}),
    "likes": (lambda v, d: torch.zeros_like(v["b"]) + v["w"].new_ones(ROWS) + torch.full_like(v["b"], 2.0), {}),
    "shapes": (lambda v, d: d["n"] * len(v["b"]) * v["w"].shape[1] * v["mu"].numel() * v["s"].dim(), {}),
}

DISTRIBUTIONS: dict[str, tuple[Program, dict[str, str]]] = {
    "normal": (lambda v, d: D.Normal(v["mu"][v["z"]], v["s"]).log_prob(d["y"]).sum(-1), {"z": A, "mu": M, "s": M}),
    "categorical": (lambda v, d: D.Categorical(logits=v["m"]).log_prob(v["z"]), {"z": A, "m": M}),
    "categorical per row": (lambda v, d: D.Categorical(logits=v["w"]).log_prob(v["b"]), {"w": A, "b": A}),
    "categorical from weights": (
        lambda v, d: D.Categorical(probs=v["m"].softmax(0)).log_prob(v["z"]),
        {"z": A, "m": M},
    ),
    "bernoulli": (lambda v, d: D.Bernoulli(logits=v["s"]).log_prob(v["b"]), {"b": A, "s": M}),
    "poisson": (lambda v, d: D.Poisson(v["m"].exp()[v["z"]]).log_prob(d["n"]), {"z": A, "m": M}),
    "gamma": (lambda v, d: D.Gamma(v["s"], v["w"].exp()).log_prob(v["s"]).sum(-1), {"w": A, "s": M}),
    "student": (lambda v, d: D.StudentT(3.0, v["w"][:, 0], v["s"]).log_prob(d["n"]), {"w": A, "s": M}),
    "negative binomial": (
        lambda v, d: D.NegativeBinomial(v["s"], logits=v["w"][:, 0]).log_prob(d["n"]),
        {"w": A, "s": M},
    ),
    "binomial": (lambda v, d: D.Binomial(4, logits=v["w"][:, 1]).log_prob(d["n"]), {"w": A}),
    "dirichlet": (lambda v, d: D.Dirichlet(v["w"].exp()).log_prob(v["mu"].softmax(-1)[0]), {"w": A, "mu": M}),
    "beta": (lambda v, d: D.Beta(v["s"], v["w"][:, 0].exp()).log_prob(v["w"][:, 1].sigmoid()), {"w": A, "s": M}),
    "independent": (
        lambda v, d: D.Independent(D.Normal(v["w"], v["s"]), 1).log_prob(d["y"]),
        {"w": A, "s": M},
    ),
    "multivariate normal": (
        lambda v, d: D.MultivariateNormal(v["mu"][v["z"]], torch.eye(COLUMNS, dtype=F)).log_prob(d["y"]),
        {"z": A, "mu": M},
    ),
    "its covariance": (
        lambda v, d: D.MultivariateNormal(d["y"], torch.diag_embed(v["w"].exp())).log_prob(d["y"] + v["s"]),
        {"w": A, "s": M},
    ),
    "log normal": (lambda v, d: D.LogNormal(v["w"][:, 0], v["s"]).log_prob(d["n"] + 1), {"w": A, "s": M}),
    "mixture": (
        lambda v, d: D.MixtureSameFamily(
            D.Categorical(logits=v["m"]), D.Independent(D.Normal(v["mu"], v["s"]), 1)
        ).log_prob(v["w"]),
        {"w": A, "m": M, "mu": M, "s": M},
    ),
    "multinomial": (
        lambda v, d: D.Multinomial(4, logits=v["w"]).log_prob(torch.tensor([1.0, 3.0], dtype=F)),
        {"w": A},
    ),
    "uniform": (lambda v, d: D.Uniform(-v["s"] - 9, 9.0).log_prob(v["w"]).sum(1), {"w": A, "s": M}),
}


def _masked(v: Mapping[str, Tensor]) -> Tensor:
    result = v["b"] + 1
    result[v["b"] > 0] = 0.5
    return result


def _elements(v: Mapping[str, Tensor]) -> Tensor:
    result = torch.zeros_like(v["b"])
    result[1:] = v["b"][:-1]
    return result


@pytest.mark.parametrize("name", TIGHT)
def test_common_cases_are_found_exactly(name: str) -> None:
    program, expected = TIGHT[name]
    found = followed(program, BATCH, 0)
    assert found.terms == {"log_joint": expected}
    assert not found.reasons
    assert uncovered(program, BATCH, 0) == []


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_are_found_exactly_with_validation_and_without(
    name: str, validate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(D.Distribution, "_validate_args", validate)
    program, expected = DISTRIBUTIONS[name]
    found = followed(program, BATCH, 0)
    assert found.terms == {"log_joint": expected}
    assert not found.reasons
    assert uncovered(program, BATCH, 0) == []


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


def _if(v: Mapping[str, Tensor], d: Any) -> Any:
    early = {"early": v["b"] * 1, "late": v["m"] * 1}
    if v["z"][0] == 1:
        early["late"] = v["m"] * 2
    return early


def _chosen(v: Mapping[str, Tensor], d: Any) -> Any:
    one, other = v["m"] + 1, v["m"] + 2
    return {"t": one if bool(v["z"].sum() > 4) else other}


def _rows_written(v: Mapping[str, Tensor], d: Any) -> Any:
    y = torch.zeros(ROWS, dtype=F)
    for i in range(ROWS):
        y[i] = v["b"][(i + 1) % ROWS]
    return y


def _through_a_view(v: Mapping[str, Tensor], d: Any) -> Any:
    y = v["b"] * 0
    y.view(-1)[1:].copy_(v["w"][:-1, 0])
    return y


def _base_of_a_view(v: Mapping[str, Tensor], d: Any) -> Any:
    y = v["b"] * 0
    view = y[1:]
    y[:-1] = v["w"][1:, 0]
    return {"view": view.sum(), "base": y}


def _plain_view(v: Mapping[str, Tensor], d: Any) -> Any:
    y = torch.zeros(ROWS, dtype=F)
    y.view_as(v["b"]).add_(v["b"].flip(0))
    return y


def _numpy_view(v: Mapping[str, Tensor], d: Any) -> Any:
    y = np.zeros(ROWS)
    torch.from_numpy(y)[1:] = v["b"][:-1]
    return torch.from_numpy(y.copy())


def _buffer(v: Mapping[str, Tensor], d: Any) -> Any:
    norm = nn.BatchNorm1d(COLUMNS).double()
    norm(v["w"])
    return norm.running_mean


def _out(v: Mapping[str, Tensor], d: Any) -> Any:
    y = torch.zeros(ROWS, dtype=F)
    torch.add(v["b"].flip(0), 1.0, out=y)
    return y


def _caught(v: Mapping[str, Tensor], d: Any) -> Any:
    try:
        return torch.func.vmap(lambda x: x.sum() * 2)(v["w"])
    except TypeError:
        return d["n"]


def _size(v: Mapping[str, Tensor], d: Any) -> Any:
    return d["n"] * v["b"][v["b"] > 0].shape[0]


ESCAPES: dict[str, Program] = {
    "item": lambda v, d: d["n"] * v["s"].item() * v["z"].sum().item(),
    "float": lambda v, d: d["n"] * float(v["s"]),
    "int as index": lambda v, d: d["n"][int(v["j"])],
    "range": lambda v, d: sum((d["n"][i] for i in range(v["j"])), torch.zeros(())),
    "tolist": lambda v, d: torch.tensor(v["b"].tolist()) + d["n"],
    "numpy": lambda v, d: torch.from_numpy(v["b"].numpy()[::-1].copy()),
    "numpy function": lambda v, d: torch.from_numpy(np.exp(np.asarray(v["b"])[::-1])),
    "new tensor": lambda v, d: torch.tensor(v["s"]) * d["n"],
    "new tensor of a list": lambda v, d: torch.tensor([v["s"], v["b"][0]]).sum(),
    "as_tensor": lambda v, d: torch.as_tensor(v["b"]).flip(0),
    "size": lambda v, d: torch.ones(int(v["j"]) + 1).sum(),
    "size by index": lambda v, d: torch.ones(v["j"] + 1).shape[0] * d["n"],
    "new size": lambda v, d: d["n"].new_ones(v["j"] + 1).shape[0] * d["n"],
    "expand by a latent": lambda v, d: len(d["n"][:1].expand(v["j"] + 1)) * d["n"],
    "slice": lambda v, d: len(d["n"][: v["j"]]) * d["n"],
    "narrow": lambda v, d: d["n"].narrow(0, v["j"], 2).sum(),
    "number of classes": lambda v, d: nnf.one_hot(v["z"]).shape[1] * d["n"],
    "mask": _size,
    "nonzero": lambda v, d: len(v["b"].nonzero()) * d["n"],
    "where with one argument": lambda v, d: len(torch.where(v["b"] > 0)[0]) * d["n"],
    "unique": lambda v, d: len(v["z"].unique()) * d["n"],
    "masked_select": lambda v, d: len(d["n"].masked_select(v["b"] > 0)) * d["n"],
    "bincount": lambda v, d: len(torch.bincount(v["z"])) * d["n"],
    "repeat_interleave": lambda v, d: len(d["n"].repeat_interleave(v["z"])) * d["n"],
    "if": _if,
    "choice between terms": _chosen,
    "equal": lambda v, d: (
        d["n"] * torch.equal(v["z"], d["c"] * 0) + d["n"] * torch.allclose(v["b"], d["n"].clamp(max=1))
    ),
    "text": lambda v, d: d["n"] * float(f"{v['s']:.3f}"),
    "memo by value": lambda v, d: {0: 1.0, 1: 2.0, 2: 5.0}[v["j"].item()] * d["n"],
    "rows written": _rows_written,
    "written through a view": _through_a_view,
    "base of a view": _base_of_a_view,
    "view of a plain tensor": _plain_view,
    "view of an array": _numpy_view,
    "buffer of a module": _buffer,
    "out": _out,
    "vmap": lambda v, d: torch.func.vmap(lambda x: x.sum())(v["w"]),
    "grad": lambda v, d: torch.func.grad(lambda x: (x**2).sum())(v["b"]),
    "autograd": lambda v, d: _autograd(v["w"]),
    "autograd function": lambda v, d: Doubled.apply(v["w"].flip(0)).sum(1),
    "caught": _caught,
    "script": lambda v, d: SCRIPTED(v["b"]),
    "parameters of a module": lambda v, d: torch.func.functional_call(
        nn.Linear(2, 3, bias=False), {"weight": v["mu"]}, d["y"]
    ),
    "deep copy": lambda v, d: __import__("copy").deepcopy(v["b"]).flip(0),
    "unknown operation": lambda v, d: torch.cdist(v["w"], d["y"]).sum(1),
    "scatter": lambda v, d: torch.zeros(COMPONENTS, dtype=F).scatter_add(0, v["z"], v["b"]),
    "index_add": lambda v, d: torch.zeros(COMPONENTS, dtype=F).index_add(0, v["z"], v["b"]),
    "index_put": lambda v, d: d["n"].index_put((v["z"],), v["b"]),
    "convolution": lambda v, d: (
        nnf.conv1d(v["b"][None], torch.ones(1, 1, 3, dtype=F), padding=1)[0]
        if v["b"].dim() > 2
        else nnf.conv1d(v["b"][None, None], torch.ones(1, 1, 3, dtype=F) / 3, padding=1)[0, 0]
    ),
    "loop over elements": lambda v, d: torch.stack([v["mu"][k].sum() for k in v["z"]]),
    "set": lambda v, d: _set(v, d),
    "bits": lambda v, d: v["w"].view(torch.int64).flip(0)[:, 0],
    "transposed in place": lambda v, d: (v["w"] * 1).t_()[0] + (v["b"] * 1).unsqueeze_(0)[0].flip(0),
}


@torch.jit.script
def SCRIPTED(x: Tensor) -> Tensor:
    return x.flip(0) * 2


def _autograd(w: Tensor) -> Tensor:
    x = w.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad((x**2).sum(), x)[0].sum(1)


def _set(v: Mapping[str, Tensor], d: Any) -> Tensor:
    y = d["n"].clone()
    y.data = v["b"].flip(0)
    return y


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ESCAPES)
def test_what_leaves_the_tensors_or_is_unknown_counts_as_dependent(name: str) -> None:
    assert uncovered(ESCAPES[name], BATCH, 0) == []


def test_reasons_say_what_went_wrong() -> None:
    found = followed(ESCAPES["float"], BATCH, 0)
    assert found.terms["log_joint"] == {"s": M}
    assert found.reasons == ("s: float takes values out of tensors",)
    found = followed(ESCAPES["vmap"], BATCH, 0)
    assert found.terms["log_joint"] == dict.fromkeys(LATENT_PLATES, M)
    assert "was called below" in found.reasons[0]


def test_terms_are_matched_to_plates_by_size() -> None:
    def program(v: Mapping[str, Tensor], d: Any) -> dict[str, Any]:
        return {
            "both": v["b"][:, None] * v["m"],
            "square": v["b"][:, None] * d["n"],  # nobody can tell its two dimensions apart
            "longer": torch.cat([v["b"], d["n"][:1]]),
            "number": 3.0,
            "global": v["s"] * 2,
        }

    found = followed(program, BATCH, 0)
    assert found.terms == {
        "both": {"b": A, "m": A},
        "square": {"b": M},
        "longer": {"b": M},
        "number": {},
        "global": {"s": M},
    }
    assert dict(found) == found.terms
    assert found["both"]["m"] == A


def test_a_function_that_fails_fails_as_without_us() -> None:
    def program(v: Mapping[str, Tensor], d: Any) -> Tensor:
        return v["w"] @ v["w"]

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        followed(program, BATCH, 0)


def test_arguments_are_left_alone() -> None:
    values = {"b": torch.ones(3, dtype=F)}

    def program(v: Mapping[str, Tensor], d: Any) -> Tensor:
        return v["b"].mul_(2)

    assert trace(program, values, None, {"rows": 3}, {"b": "rows"}).terms == {"log_joint": {"b": A}}
    assert values["b"].tolist() == [1, 1, 1]
    assert trace(program, values, None, {"rows": 4}, {"b": "rows"}).terms == {"log_joint": {"b": M}}


def test_under_inference_mode() -> None:
    with torch.inference_mode():
        values = {"b": torch.ones(3, dtype=F), "c": torch.zeros(3, dtype=F)}
        found = trace(lambda v, d: v["b"] + 1, values, None, {"rows": 3}, {"b": "rows", "c": "rows"})
        assert found.terms == {"log_joint": {"b": A}}


def test_every_elementwise_operation_is_one() -> None:
    """PyTorch's list of elementwise operations, and our additions, are taken at their word: are they right?"""
    from jensen.gradients.dependence import kinds
    from jensen.gradients.dependence.rules import rule_of

    x = torch.rand(4, dtype=F, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    tried = set()
    for module in (torch, torch.special, nnf):
        for name in dir(module):
            function = getattr(module, name)
            if name.endswith("_") or not callable(function) or rule_of(name) is not kinds.elementwise:
                continue
            for others in ((), (x / 2,), (x / 2, x / 3)):
                torch.manual_seed(0)
                try:
                    before = function(x, *others)
                except (TypeError, RuntimeError, ValueError):
                    continue
                torch.manual_seed(0)
                after = function(torch.cat([x[:2] * 0.9, x[2:]]), *others)
                if isinstance(before, Tensor) and before.shape == x.shape:
                    torch.testing.assert_close(before[2:], after[2:], rtol=0, atol=0, equal_nan=True)
                    tried.add(name)
    assert len(tried) > 100


def test_operations_with_dynamic_shapes_are_known() -> None:
    """All that PyTorch marks as having a shape, or a Python result, that depends on values."""
    from jensen.gradients.dependence.names import DYNAMIC

    returned = {"item", "equal", "allclose"}  # Python values: seen as such
    handled = {"one_hot", "index"}  # by rules of their own
    for full in torch._C._dispatch_get_all_op_names():
        name, _, form = full.removeprefix("aten::").partition(".")
        packet = getattr(torch.ops.aten, name, None) if full.startswith("aten::") else None
        if packet is None or name.startswith("_") or (form or "default") not in packet.overloads():
            continue
        tags = getattr(packet, form or "default").tags
        if torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags:
            assert name in DYNAMIC | returned | handled or name.startswith("unique"), name
