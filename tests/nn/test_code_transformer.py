"""The transformer over codes: its layers against torch's, what a context tells whom, and its cache."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jensen.nn import CodeTransformer
from jensen.nn.autoregressive import draw


def test_layers_are_those_of_torch() -> None:
    """The whole net from torch's pre-norm encoder layers under a causal mask, with the same weights."""
    width, depth, channels, places, levels = 12, 2, 2, 6, 5
    net = CodeTransformer((channels, 2, 3), levels, width=width, depth=depth, heads=3, context=4).double().eval()
    x, context = torch.randint(levels, (7, channels, 2, 3)), torch.randn(7, 4, 2, 3, dtype=torch.float64)
    state = net.state_dict()
    embedding = state["embedding.weight"]
    inputs = []
    for i in range(channels * places):
        place, channel = divmod(i, channels)
        row, column = divmod(place, 3)
        if i == 0:
            token = state["first"].expand(7, -1)
        else:
            before, of = divmod(i - 1, channels)
            token = embedding[of][x[:, of, before // 3, before % 3]]
        told = context[:, :, row, column] @ state["told.weight"].T
        inputs.append(token + state["places"][place] + state["channels"][channel] + told)
    hidden = torch.stack(inputs, 1)
    mask = nn.Transformer.generate_square_subsequent_mask(channels * places, dtype=torch.float64)
    for i in range(depth):
        layer = nn.TransformerEncoderLayer(
            width, 3, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
        )
        own = {name.removeprefix(f"layers.{i}."): value for name, value in state.items() if f"layers.{i}." in name}
        names = {
            "self_attn.in_proj_": "queries.",
            "self_attn.out_proj.": "out.",
            "norm1.": "norm.",
            "norm2.": "inner.0.",
            "linear1.": "inner.1.",
            "linear2.": "inner.3.",
        }
        layer.load_state_dict({a + kind: own[b + kind] for a, b in names.items() for kind in ("weight", "bias")})
        hidden = layer(hidden, src_mask=mask)
    hidden = nn.functional.layer_norm(hidden, (width,), state["norm.weight"], state["norm.bias"])
    logits = net(x, context)
    for i in range(channels * places):
        place, channel = divmod(i, channels)
        expected = hidden[:, i] @ state["head.weight"][channel].T + state["head.bias"][channel]
        torch.testing.assert_close(logits[:, channel, place // 3, place % 3], expected)


def test_context_reaches_its_own_place_and_later_ones() -> None:
    net = CodeTransformer((2, 2, 2), 3, width=8, depth=2, heads=2, context=1).double()
    context = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    logits = net(torch.randint(3, (1, 2, 2, 2)), context)
    for channel in range(2):
        for place in range(4):
            factor = logits[0, channel, place // 2, place % 2]
            (gradient,) = torch.autograd.grad((factor * torch.randn_like(factor)).sum(), context, retain_graph=True)
            assert (gradient.flatten() != 0).tolist() == [other <= place for other in range(4)]


def test_drawing_computes_one_position_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net = CodeTransformer((2, 3, 2), 3, width=8, depth=2, heads=2)
    lengths: list[int] = []
    for name, module in net.named_modules():
        if name.endswith("queries"):
            module.register_forward_hook(lambda module, inputs, out: lengths.append(out.shape[1]))
    monkeypatch.setattr(CodeTransformer, "forward", None)
    draw(net, 3)
    assert lengths == [1] * (12 * 2)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 10 should be a multiple of heads 4"):
        CodeTransformer((1, 2, 2), 3, width=10, heads=4)
