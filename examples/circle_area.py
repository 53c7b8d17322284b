"""An encoder-decoder whose target is not its input: from a picture of a circle, is its area above a threshold?

The encoder squeezes the picture (28 x 28) into a code of four numbers; the decoder turns the code into the probability
of "large". The same classes that learn to reconstruct learn this: only the target differs.

    python examples/circle_area.py             # some seconds

The same from the command line:

    jensen train --data circles --target large --model autoencoder --latent 4 --epochs 10 --run runs/circle-area
    jensen evaluate runs/circle-area
"""

from __future__ import annotations

import torch

from jensen import AutoEncoder, load_data, train


def main() -> None:
    """Train, then count right answers on circles that the model has not seen."""
    data = load_data("circles", target="large")
    torch.manual_seed(0)  # of the weights
    model = AutoEncoder(data.shape, latent=4, likelihood="bernoulli", target_shape=data.target_shape)
    train(model, data, epochs=10, quiet=True)

    test = data.test.batch(torch.arange(len(data.test)))
    with torch.no_grad():
        probability = model.reconstruct(test.x)  # the mean of the Bernoulli likelihood
    large = test.target > 0.5
    right = (probability > 0.5) == large
    share = large.double().mean().item()
    print(f"{len(large)} circles not seen in training, {share:.1%} of them large")
    print(
        f"accuracy: {right.double().mean():.2%} (always giving the more frequent answer: {max(share, 1 - share):.1%})"
    )
    unsure = int((probability - 0.5).abs().argmin())
    print(
        f"least sure of circle {unsure}: probability {probability[unsure].item():.3f}, truth {large[unsure].item():d}"
    )


if __name__ == "__main__":
    main()
