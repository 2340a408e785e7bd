"""The metrics of scored sets. Each has one definition, shared by training, `evaluate` and the study.

wer, cer               error rates over the pooled counts of a set
ctc_wer                the same for greedy decoding by CTC alone
perplexity             exp(total NLL / total tokens) given the audio, of the final classifier
perplexity_layer_2     the same of the auxiliary classifier on decoder layer 2
ilm_perplexity         the internal language model's: the mean over utterances of exp(mean NLL) without the audio
ilm_perplexity_corpus  exp(total NLL / tokens) without it
ilm_perplexity_word    exp(total NLL / words) without it
rtf                    of the dev sets alone: the real-time factor of decoding, as `decoding_clock` measures it; only
                       this one differs when a model is scored again

Where `validation.utterances` names a part of the dev sets, `dev/utterances` is its size. All metrics of the dev sets
are of it then, but for those that end in `_final`, and those of other estimators of the internal language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model.corpora.corpus import Corpus, Domain
from model.evaluation.error_rates import Edits, ScoredUtterance, error_rate, perplexity, sum_edits

AVERAGED = ("wer", "cer", "perplexity", "ilm_perplexity")  # the metrics that domains have, too
DOMAINS: dict[Domain, str] = {"in": "in_domain", "out": "out_of_domain"}


def compute_metrics(scored: Sequence[ScoredUtterance], prefix: str, placement: Sequence[int] = ()) -> dict[str, float]:
    """The metrics of a set under `prefix`, for example `dev/wer`; `placement` has the auxiliary layers."""
    tokens = sum(utterance.tokens for utterance in scored)
    words = sum(utterance.words.length for utterance in scored)
    ilm_nll = sum(utterance.ilm_nll for utterance in scored)
    ilm_perplexities = [perplexity(utterance.ilm_nll, utterance.tokens) for utterance in scored]
    values = {
        "wer": error_rate(utterance.words for utterance in scored),
        "ctc_wer": error_rate(utterance.ctc_words for utterance in scored),
        "cer": error_rate(utterance.characters for utterance in scored),
        "perplexity": perplexity(sum(utterance.nll for utterance in scored), tokens),
        "ilm_perplexity": sum(ilm_perplexities) / len(scored),
        "ilm_perplexity_corpus": perplexity(ilm_nll, tokens),
        "ilm_perplexity_word": perplexity(ilm_nll, words),
    }
    for index, layer in enumerate(placement):
        values[f"perplexity_layer_{layer}"] = perplexity(sum(one.layer_nll[index] for one in scored), tokens)
    return {f"{prefix}/{name}": value for name, value in values.items()}


def compute_dev_metrics(
    corpus: Corpus, scored: Sequence[ScoredUtterance], placement: Sequence[int] = ()
) -> dict[str, float]:
    """The metrics of all dev sets pooled (`dev/cer`), and where there are several, of those of each domain pooled
    (`dev/in_domain/cer`); and their `dev_error_rates`."""
    metrics = compute_metrics(scored, "dev", placement)
    sets = {name: [one for one in scored if one.set_name == name] for name in corpus.set_names("dev")}
    for domain, prefix in DOMAINS.items() if len(sets) > 1 else ():
        of_domain = [one for name in corpus.set_names("dev", domain) for one in sets[name]]
        if of_domain:
            values = compute_metrics(of_domain, f"dev/{prefix}")
            metrics |= {f"dev/{prefix}/{name}": values[f"dev/{prefix}/{name}"] for name in AVERAGED}
    return metrics | dev_error_rates(
        corpus, {name: sum_edits(one.words for one in part) for name, part in sets.items()}
    )


def dev_error_rates(corpus: Corpus, sets: Mapping[str, Edits]) -> dict[str, float]:
    """WERs of the dev sets, from the word edits of each: of all pooled (`dev/wer`), their plain mean (`dev/macro_wer`),
    of those of a domain pooled (`dev/in_domain/wer`), and where there are several, of each (`dev/SET/wer`)."""
    rates = {name: error_rate([edits]) for name, edits in sets.items()}
    metrics = {"dev/wer": error_rate(sets.values()), "dev/macro_wer": sum(rates.values()) / len(rates)}
    for domain, prefix in DOMAINS.items():
        of_domain = [edits for name, edits in sets.items() if corpus.sets[name].domain == domain]
        if of_domain:
            metrics[f"dev/{prefix}/wer"] = error_rate(of_domain)
    return metrics | ({f"dev/{name}/wer": rate for name, rate in rates.items()} if len(rates) > 1 else {})


def average_domains(corpus: Corpus, metrics: Mapping[str, float]) -> dict[str, float]:
    """`in_domain/*` and `out_of_domain/*`: plain means of a metric over the test sets of that domain."""
    domains = {prefix: corpus.set_names("test", domain) for domain, prefix in DOMAINS.items()}
    return {
        f"{domain}/{metric}": sum(metrics[f"test/{name}/{metric}"] for name in sets) / len(sets)
        for domain, sets in domains.items()
        if sets
        for metric in AVERAGED
    }
