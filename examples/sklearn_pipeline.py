"""A variational auto-encoder as a step of scikit-learn: codes for a classifier, densities, anomalies.

Run:  python examples/sklearn_pipeline.py        (under a minute on two cores)
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jensen.estimators import VAEEstimator

SIZES = [2, 6]


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)

    # 1. Codes of each size, and of principal components, for a logistic regression.
    print("accuracy of a logistic regression on codes, test data")
    vae = VAEEstimator(batch_size=128, patience=10, random_state=0)
    for latent in SIZES:
        found = [
            make_pipeline(step, StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, y).score(x_test, y_test)
            for step in (PCA(latent), vae.set_params(latent=latent))
        ]
        print(f"  {latent} numbers: PCA {found[0]:.3f}, VAE {found[1]:.3f}")

    # 2. How large a code the data ask for: log p(x) of held-out rows.
    grid = GridSearchCV(vae.set_params(epochs=60, patience=20), {"latent": SIZES}, cv=2).fit(x)
    for latent, score in zip(SIZES, grid.cv_results_["mean_test_score"], strict=True):
        print(f"log p(x), {latent} numbers, cross-validated: {score:.1f} nats a row")
    pca = PCA(grid.best_params_["latent"]).fit(x)
    print(f"test data: VAE {grid.score(x_test):.1f}, PCA of the same size {pca.score(x_test):.1f} nats a row")

    # 3. A model that has never seen a nine finds nines unlikely.
    seen = VAEEstimator(6, batch_size=128, patience=10, random_state=0).fit(x[y != 9])
    auc = roc_auc_score(y_test == 9, -seen.score_samples(x_test))
    print(f"nines among test data by -log p(x), of a model that never saw one: area under ROC {auc:.3f}")


if __name__ == "__main__":
    main()
