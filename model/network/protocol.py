"""What a network of a user's own has to offer, to be trained, scored and decoded as the project's own is.

A recipe names a function that makes it (`custom_model.factory`); model/network/custom.py does all that is left: the
DeCRED loss, mixing, beam search, scores. model/network/checking.py tries what is promised here on a random batch.

Shapes: B utterances, K hypotheses of each, T feature frames of 10 ms, S states, D width, U tokens, V vocabulary.
A tree is a tensor, or a tuple, list or dict of trees; None is one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from model.network.losses import Counts, Losses

Tree = Any


@runtime_checkable
class CustomModel(Protocol):
    """The methods of the network, which is a torch.nn.Module; all its trained parameters have to be used by the loss.

    Classifiers are ordered as `loss.auxiliary.placement` is, the final one last: N of them. Logits are raw scores.
    """

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, 80) and their lengths (B,) in frames -> states (B, S, D) and their lengths (B,).

        There is a state for every 4 frames, give or take two states: lengths of hypotheses, times of words and the
        choice of training utterances count on that.
        """

    def ctc(self, states: Tensor) -> Tensor:
        """States (B, S, D) -> logits of the CTC classes (B, S, V + 1), the blank last.

        Where `tokenizer.special.blank` is a token of the vocabulary, they are (B, S, V).
        """

    def prepare_memory(self, states: Tensor, lengths: Tensor) -> Tree:
        """What the decoder reads of the utterances, made once for all their tokens: tensors (B, ...)."""

    def classify(self, tokens: Tensor, memory: Tree | None) -> Sequence[Tensor]:
        """Decoder input (B, U), bos first -> for each of N classifiers the logits of the tokens after it, (B, U, V).

        With memory None, of the decoder without audio, as internal LM, for example with zeros for what attention reads.
        """

    def step(self, tokens: Tensor, memory: Tree | None, state: Tree | None) -> tuple[Sequence[Tensor], Tree]:
        """One token (B, K) of each hypothesis -> what `classify` gives for it, each (B, K, V), and the state after it.

        The state is what the decoder keeps of the tokens so far: tensors (B * K, ...), an utterance's hypotheses one
        after the other. It is None at bos. Without memory the logits are again those of the decoder without audio.
        """


@runtime_checkable
class HasLoss(Protocol):
    """A network that computes the loss itself; otherwise it is the DeCRED loss of `ctc` and `classify`."""

    def loss(self, features: Tensor, lengths: Tensor, labels: Tensor, counts: Counts) -> Losses:
        """The training loss: labels (B, U) end in eos and are -100 where there is none; lengths and labels may be on
        another device than the features.

        Sums over utterances are divided by `counts.utterances`, and over tokens by `counts.tokens`: the batch may be a
        part of a larger one, which the counts are of. Weights are those of the recipe that the factory got.
        """
