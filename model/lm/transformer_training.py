"""Training of a Transformer language model on sentences of token ids, stopped where the dev text gains nothing more.

Shapes: B sentences, U tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model.errors import UserError
from model.lm.scorer import TextScore
from model.lm.transformer import TransformerLm, TransformerLmConfig
from model.network.losses import IGNORED

Sentences = Sequence[Sequence[int]]
Report = Callable[[int, float], None]  # of an epoch, from 1, and the dev text's perplexity after it
CLIP_NORM, BETAS, WEIGHT_DECAY = 1.0, (0.9, 0.98), 1e-2


@dataclass(frozen=True)
class LmTraining:
    """How a Transformer language model is trained.

    The learning rate rises linearly in `warmup_steps`. After an epoch that has not lowered the perplexity of the dev
    text it is halved; `patience` such epochs in a row end the training, `epochs` at the latest. `batch_tokens` are
    those of a batch, with padding; fewer where a text is so small that an epoch would not have `least_steps`.
    """

    epochs: int = 30
    patience: int = 3
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    batch_tokens: int = 4000
    least_steps: int = 100
    seed: int = 0


def train_transformer(
    train: Sentences,
    dev: Sentences,
    vocabulary: int,
    bos: int,
    config: TransformerLmConfig,
    settings: LmTraining,
    report: Report,
    device: torch.device | str = "cpu",
) -> TransformerLm:
    """The model of the epoch with the lowest perplexity of the dev sentences, in eval mode.

    Sentences have their eos and no bos. The same seed gives the same model on the same machine. Raises a UserError
    where one of the texts is empty.
    """
    for name, sentences in (("text", train), ("dev text", dev)):
        if not sentences:
            raise UserError(f"the {name} of the language model holds no sentence; give one that does")
    with torch.random.fork_rng():  # the caller's draws stay what they would be without this training
        torch.manual_seed(settings.seed)
        model = TransformerLm(vocabulary, config).to(device)
        trainer = _Trainer(model, train, bos, settings)
        best, lowest, idle = model.state_dict(), float("inf"), 0
        for epoch in range(1, settings.epochs + 1):
            trainer.train_epoch()
            reached = score_text(model, dev, bos, settings.batch_tokens).perplexity
            report(epoch, reached)
            if reached < lowest:
                best, lowest, idle = copy.deepcopy(model.state_dict()), reached, 0
            else:
                trainer.rate, idle = trainer.rate / 2, idle + 1
            if idle == settings.patience:
                break
        model.load_state_dict(best)
    return model.eval()


class _Trainer:
    """A model, its optimiser, and where its training stands; `rate` is the learning rate after the warm-up."""

    def __init__(self, model: TransformerLm, sentences: Sentences, bos: int, settings: LmTraining) -> None:
        self.model, self.sentences, self.bos, self.settings = model, sentences, bos, settings
        self.rate, self.steps = settings.learning_rate, 0
        self.batch_tokens = min(settings.batch_tokens, sum(map(len, sentences)) // settings.least_steps)
        self.generator = np.random.default_rng(settings.seed)
        matrices = [one for one in model.parameters() if one.dim() > 1]
        others = [one for one in model.parameters() if one.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=self.rate, betas=BETAS)

    def train_epoch(self) -> None:
        self.model.train()
        for batch in plan_batches(self.sentences, self.batch_tokens, self.generator):
            self.steps += 1
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * min(1.0, self.steps / self.settings.warmup_steps)
            inputs, labels = _pad([self.sentences[row] for row in batch], self.bos, self.model.embedding.weight.device)
            self.optimiser.zero_grad()
            _cross_entropy(self.model(inputs), labels, "mean").backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
            self.optimiser.step()


def plan_batches(sentences: Sentences, batch_tokens: int, generator: np.random.Generator) -> list[list[int]]:
    """Sentences of similar length together, in a new random order each time: rows, each in one batch."""
    drawn = generator.permutation(len(sentences))
    rows = sorted(drawn.tolist(), key=lambda row: len(sentences[row]))
    batches: list[list[int]] = [[]]
    for row in rows:
        if batches[-1] and (len(batches[-1]) + 1) * len(sentences[row]) > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    return [batches[place] for place in generator.permutation(len(batches))]


@torch.inference_mode()
def score_text(model: TransformerLm, sentences: Sentences, bos: int, batch_tokens: int) -> TextScore:
    """The score of a text, all tokens of a sentence at once; the model is in eval mode afterwards."""
    model.eval()
    nll = 0.0
    for batch in plan_batches(sentences, batch_tokens, np.random.default_rng(0)):
        inputs, labels = _pad([sentences[row] for row in batch], bos, model.embedding.weight.device)
        nll += float(_cross_entropy(model(inputs), labels, "sum"))
    return TextScore(nll, sum(map(len, sentences)))


def _pad(sentences: Sentences, bos: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The model's input, which begins with bos, and the labels, IGNORED where a sentence has ended: (B, U) each."""
    rows = [torch.tensor(sentence) for sentence in sentences]
    labels = pad_sequence(rows, batch_first=True, padding_value=IGNORED)
    inputs = torch.cat((torch.full((len(rows), 1), bos), labels[:, :-1]), dim=1)
    return inputs.masked_fill(inputs == IGNORED, bos).to(device), labels.to(device)


def _cross_entropy(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction=reduction)
