"""What scoring a set gives, against an independent computation utterance by utterance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jiwer
import pytest
import torch
from training_runs import ALONE

from model.corpora.corpus import Corpus
from model.data.batches import Batch
from model.data.recipe_inputs import load_tokenizer
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances
from model.decoding.ctc_greedy import decode_ctc_greedy
from model.errors import OutOfMemoryError
from model.evaluation import scoring
from model.evaluation.error_rates import ScoredUtterance
from model.evaluation.metrics import compute_dev_metrics
from model.evaluation.scoring import load_dev_utterances, score_set
from model.network.kernels.precision import has_bf16_units
from model.network.recogniser import EncoderOutput, Recogniser
from model.recipe.decoding import DecodingConfig, SearchConfig, ValidationConfig

AUXILIARY = {"loss.auxiliary": {"placement": [1, 3], "weights": [0.3, 0.2]}}


@dataclass(frozen=True)
class Scene:
    """An untrained model with two auxiliary classifiers, and the dev sets."""

    corpus: Corpus
    tokenizer: Tokenizer
    model: Recogniser
    dev: Utterances

    def score(self, decoding: SearchConfig) -> list[ScoredUtterance]:
        return score_set(self.model, self.dev, decoding, self.tokenizer, ALONE)


@pytest.fixture(scope="module")
def scene(make_recipe, corpus: Corpus) -> Scene:
    recipe = make_recipe(AUXILIARY)
    torch.manual_seed(3)
    tokenizer = load_tokenizer(recipe, corpus)
    model = Recogniser(recipe).eval()
    for parameter in model.parameters():  # so that classifiers and hypotheses differ
        torch.nn.init.normal_(parameter, std=0.5)
    return Scene(corpus, tokenizer, model, load_dev_utterances(corpus, tokenizer))


@torch.inference_mode()
def measure_nll(scene: Scene, row: int) -> list[float]:
    """-log p of an utterance's labels by each classifier, the final one last, token by token."""
    model, labels = scene.model, scene.dev.labels(row).tolist()
    features = scene.dev.features(row)
    encoded = model.encode(features[None], torch.tensor([len(features)]))
    inputs = torch.tensor([[model.special.bos, *labels[:-1]]])
    outputs = model.decoder.layer_outputs(inputs, model.prepare_memory(encoded))
    heads = [(model.decoder.auxiliary[0], 1), (model.decoder.auxiliary[1], 3), (model.decoder.final, len(outputs))]
    log_probs = [head(outputs[layer - 1])[0].double().log_softmax(dim=-1) for head, layer in heads]
    return [-sum(float(row[label]) for row, label in zip(rows, labels, strict=True)) for rows in log_probs]


def test_perplexities_of_all_classifiers_are_those_of_a_computation_by_token(scene: Scene) -> None:
    scored = scene.score(ValidationConfig())
    metrics = compute_dev_metrics(scene.corpus, scored, scene.model.decoder.placement)
    sums = torch.tensor([measure_nll(scene, row) for row in range(len(scene.dev))]).sum(dim=0)
    tokens = int(scene.dev.label_counts.sum())
    expected = (sums / tokens).exp().tolist()
    names = ("dev/perplexity_layer_1", "dev/perplexity_layer_3", "dev/perplexity")
    assert [metrics[name] for name in names] == pytest.approx(expected, rel=1e-3)
    assert len({round(value, 2) for value in expected}) == 3


def test_the_ctc_error_rate_is_that_of_greedy_ctc_decoding(scene: Scene, monkeypatch) -> None:
    noise = 50 * torch.randn(1000, scene.model.blank + 1, generator=torch.Generator().manual_seed(0))

    def add_ctc(*arguments, add_ctc=scene.model.add_ctc) -> EncoderOutput:
        encoded = add_ctc(*arguments)  # an untrained head has the same few classes in every frame
        return replace(encoded, ctc_logits=encoded.ctc_logits + noise[: encoded.ctc_logits.shape[1]])

    monkeypatch.setattr(scene.model, "add_ctc", add_ctc)
    hypotheses = []
    for row in range(len(scene.dev)):
        features = scene.dev.features(row)
        with torch.inference_mode():
            encoded = scene.model.encode(features[None], torch.tensor([len(features)]))
        hypotheses.append(scene.tokenizer.decode(decode_ctc_greedy(scene.model, encoded)[0]))
    expected = 100 * jiwer.wer([scene.dev.text(row) for row in range(len(scene.dev))], hypotheses)
    metrics = compute_dev_metrics(scene.corpus, scene.score(ValidationConfig()))
    assert metrics["dev/ctc_wer"] == pytest.approx(expected)
    assert expected != 100


def let_batches_fail(monkeypatch: pytest.MonkeyPatch, largest: int) -> list[int]:
    """Let memory not suffice for batches of more utterances; the sizes that were tried."""
    tried: list[int] = []

    def score_batch(model, batch: Batch, *others, score=scoring._score_batch) -> list[ScoredUtterance]:
        tried.append(len(batch.ids))
        if len(batch.ids) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return score(model, batch, *others)

    monkeypatch.setattr(scoring, "_score_batch", score_batch)
    return tried


@pytest.mark.parametrize("parts", [2, None])
def test_a_batch_that_does_not_fit_in_memory_is_split_and_scored_to_the_same(
    scene: Scene, monkeypatch, parts: int | None
) -> None:
    count = len(scene.dev)
    decoding = DecodingConfig(beam=3, ctc_weight=0.4)
    whole = scene.score(decoding)
    tried = let_batches_fail(monkeypatch, count // parts if parts else 1)
    split = scene.score(decoding)
    assert tried == [count, count // 2, count // 2] if parts else tried.count(1) == count
    assert len({one.hypothesis for one in whole}) > 1
    for one, other in zip(whole, split, strict=True):
        for name in ("id", "reference", "hypothesis", "words", "characters", "tokens", "ctc_words"):
            assert getattr(one, name) == getattr(other, name)
        sums = [(scored.nll, scored.ilm_nll, *scored.layer_nll) for scored in (one, other)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-5)


def test_where_not_even_an_utterance_fits_the_error_says_what_to_lower(scene: Scene, monkeypatch) -> None:
    let_batches_fail(monkeypatch, 0)
    message = (
        r"^out of memory in decoding 1 utterances x \d+ frames, beam 3 \(CUDA out of memory\); lower the decoding's "
    )
    with pytest.raises(OutOfMemoryError, match=message + "beam or the model's sizes$"):
        scene.score(DecodingConfig(beam=3))


def test_validation_decodes_with_the_final_classifier_whatever_the_decoding_mixes(scene: Scene) -> None:
    plain = scene.score(ValidationConfig())
    scene.model.decoder.mixing = torch.tensor([1.0, 0.0, 0.0])
    try:
        learned = scene.score(DecodingConfig())
        assert scene.score(ValidationConfig()) == plain
        assert scene.model.decoder.mixing.tolist() == [1.0, 0.0, 0.0], "it is left as it was"
    finally:
        scene.model.decoder.mixing = None
    mixed = scene.score(DecodingConfig(mixing=(1.0, 0.0, 0.0)))
    texts = [[one.hypothesis for one in scored] for scored in (plain, learned, mixed)]
    assert texts[0] != texts[1] == texts[2]
    assert scene.model.decoder.mixing is None


def test_hypotheses_are_no_longer_than_the_learnt_bound_where_the_decoding_asks_for_it(scene: Scene) -> None:
    scene.model.tokens_per_second = 0.5
    try:
        short, other, none = (
            scene.score(ValidationConfig(tokens_per_second=bound)) for bound in ("learnt", 8.0, "none")
        )
    finally:
        scene.model.tokens_per_second = None
    lengths = [sum(len(scene.tokenizer.encode(one.hypothesis)) for one in scored) for scored in (short, other, none)]
    assert lengths[0] < lengths[1] < lengths[2]


@pytest.mark.skipif(not has_bf16_units(torch.device("cpu")), reason="this processor has no bf16 units")
def test_the_encoders_products_are_in_the_precision_of_the_decoding(scene: Scene) -> None:
    fp32, bf16 = (scene.score(ValidationConfig(encoder_precision=name)) for name in ("fp32", "bf16"))
    assert sum(one.nll for one in bf16) == pytest.approx(sum(one.nll for one in fp32), rel=0.02)
    assert [one.nll for one in bf16] != [one.nll for one in fp32]
    assert [one.ilm_nll for one in bf16] == [one.ilm_nll for one in fp32], "the decoder is always fp32"


def test_keys_of_a_set_are_computed_once_for_search_and_likelihoods(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, batches = scene.model.prepare_memory, list[int]()

    def count(encoded: EncoderOutput) -> object:
        batches.append(len(encoded.states))
        return prepare(encoded)

    monkeypatch.setattr(scene.model, "prepare_memory", count)
    scene.score(ValidationConfig())
    assert sum(batches) == len(scene.dev)
