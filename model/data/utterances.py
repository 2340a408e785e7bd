"""The utterances of sets of a corpus, with their features, their labels and their text. Shapes: T feature frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lhotse import CutSet
from torch import Tensor

from model.corpora.corpus import Corpus
from model.data.features import FeatureStore, load_cuts, open_feature_store
from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import Tokenizer
from model.network.subsampling import subsampled_length


@dataclass(frozen=True)
class Utterances:
    """Utterances by id: the store of their features, their labels (token ids that end in eos), text and speaker."""

    stores: Mapping[str, FeatureStore]
    labels: Mapping[str, list[int]]
    texts: Mapping[str, str]
    speakers: Mapping[str, str]

    @classmethod
    def merge(cls, parts: Iterable[Utterances]) -> Utterances:
        """The utterances of all parts; ids are unique in a corpus."""
        stores: dict[str, FeatureStore] = {}
        labels: dict[str, list[int]] = {}
        texts: dict[str, str] = {}
        speakers: dict[str, str] = {}
        for part in parts:
            stores |= part.stores
            labels |= part.labels
            texts |= part.texts
            speakers |= part.speakers
        return cls(stores, labels, texts, speakers)

    def features(self, utterance: str) -> Tensor:
        """(T, 80) in float32."""
        return self.stores[utterance][utterance]

    def frame_count(self, utterance: str) -> int:
        return self.stores[utterance].frame_count(utterance)

    def has_ctc_alignment(self, utterance: str) -> bool:
        """Whether CTC can align the labels: an encoder frame for each, and a blank between equal neighbours."""
        labels = self.labels[utterance]
        repeats = sum(left == right for left, right in itertools.pairwise(labels))
        return int(subsampled_length(self.frame_count(utterance))) >= len(labels) + repeats


DENSITY_MARGIN = 1.25  # other speech may be denser than the densest of the training set


def learn_tokens_per_second(utterances: Iterable[tuple[int, int]]) -> float:
    """A bound on tokens a second, from (tokens, feature frames) of each training utterance."""
    return DENSITY_MARGIN * max(tokens * FRAMES_PER_SECOND / frames for tokens, frames in utterances)


def load_utterances(corpus: Corpus, set_name: str, speed: float, tokenizer: Tokenizer) -> tuple[CutSet, Utterances]:
    """The cuts of a set at a speed, and their utterances."""
    cuts, store = load_cuts(corpus, set_name, speed), open_feature_store(corpus, set_name, speed)
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    labels = {utterance: tokenizer.encode(text) for utterance, text in texts.items()}
    speakers = {cut.id: cut.supervisions[0].speaker for cut in cuts}
    return cuts, Utterances(dict.fromkeys(texts, store), labels, texts, speakers)
