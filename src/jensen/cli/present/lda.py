"""Topics: their words, how much of the corpus each makes up, what documents are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named, estimates
from jensen.cli.present.base import Presentation, count, numbered, shown_number
from jensen.report import Estimate, Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["TopicPresentation"]

_TABLE_WORDS = 30
_PICTURE_WORDS = 10


class TopicPresentation(Presentation):
    """`TopicModel`; the run's columns are its vocabulary."""

    @property
    def topics(self) -> list[str]:
        """Their names."""
        return list(numbered("topic", self.fitted.n_topics))

    @property
    def _shown(self) -> int:
        """Words that are shown of each topic."""
        return min(_PICTURE_WORDS, len(self.columns))

    def summary(self) -> str:
        """A sentence or two under the heading."""
        return (
            f"{count(self.fitted.n_topics, 'topic')} of {count(self.facts.rows, 'document')} of {self.data_name}, over "
            f"{count(len(self.columns), 'word')} (latent Dirichlet allocation)."
        )

    def estimates(self) -> list[Estimate]:
        """The most probable words of each topic: all of them would be a table of topics times words."""
        from jensen.families import Beta

        concentration = self.fitted.posterior_["topics"].standard_parameters.concentration.double()
        total = concentration.sum(-1)
        top = concentration.topk(min(_TABLE_WORDS, concentration.shape[-1]), dim=-1)
        rows: list[Estimate] = []
        for place, name in enumerate(self.topics):
            words = [self.columns[word] for word in top.indices[place].tolist()]
            share = Beta.from_standard(top.values[place], (total[place] - top.values[place]).clamp_min(1e-300))
            rows.extend(estimates({name: share}, {name: Named(name, (words,))}, self.facts.level))
        return rows

    def data_facts(self, data: Loaded) -> list[Row]:
        """Words, their probability, and how well top words go together."""
        x = data.predict["X"]
        tokens = float(x.sum())
        value = float(self.fitted.score_samples(x).sum()) / max(tokens, 1.0)
        rows = [
            Row("Words", f"{tokens:,.0f}", "", f"In {count(self.facts.rows, 'document')}, repeated ones counted."),
            Row("Log-probability", shown_number(value), "nats a word", "A bound, of the documents fitted to."),
        ]
        meaning = f"Whether a topic's first {self._shown} words occur together (NPMI, from −1 to 1), mean over topics."
        coherence = float(np.mean(self.fitted.coherence(x, self._shown)))
        return [*rows, Row("Coherence", shown_number(coherence, 3), "", meaning)]

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """Topics by their words; with the documents, how much each topic makes up."""
        shares, x = None, None
        if data is not None:
            x = data.predict["X"]
            lengths = np.asarray(x.sum(axis=1)).ravel()
            proportions = self.fitted.transform(x)
            shares = lengths @ proportions / max(lengths.sum(), 1.0)
        words = self.fitted.top_words(list(self.columns), self._shown)
        order = np.argsort(-self.fitted.topics_, axis=1, kind="stable")[:, : self._shown]
        weights = np.take_along_axis(self.fitted.topics_, order, axis=1)
        text = "The most probable words of each topic; a bar is the word's probability in the topic."
        if shares is not None:
            text += " The percentage is the topic's share of all words; the largest topics come first."
        alt = f"Bar charts of the first {self._shown} words of each of {self.fitted.n_topics} topics."
        figure = plots.topics(words, list(weights), shares=shares)
        found = [Picture("topics", "Topics", text, alt, figure)]
        return found if data is None else [*found, self._documents(proportions)]

    def _documents(self, proportions: Any) -> Picture:
        """How many topics a document has."""
        from jensen.plots import relevance

        many = (proportions > 0.1).sum(axis=1)
        text = "In how many documents each topic makes up a tenth or more; a document has "
        text += f"{many.mean():.1f} such topics on average."
        figure = relevance(
            (proportions > 0.1).sum(axis=0),
            title="Documents of each topic",
            x="topic, most documents first",
            y="documents",
        )
        return Picture("documents", "Documents of each topic", text, "Bar chart of documents a topic.", figure)

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """The largest topic, the share of each, a bound on the log-probability of the document's words."""
        x = data.predict["X"]
        proportions = self.fitted.transform(x)
        columns: dict[str, Any] = {"topic": proportions.argmax(axis=1)}
        columns |= {name: proportions[:, place] for place, name in enumerate(self.topics)}
        return {**columns, "log probability": self.fitted.score_samples(x)}
