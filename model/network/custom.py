"""A recogniser whose network is a user's own (model/network/protocol.py), behind the interface of the project's own.

Shapes: B utterances, K hypotheses of each, T feature frames, S states, D width, U tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.network import losses
from model.network.decoder import Decoder, mix_logits
from model.network.protocol import CustomModel, HasLoss, Tree
from model.network.recogniser import EncoderOutput, Recogniser
from model.recipe.recipe import Recipe


def map_tree(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The tree with the function of each tensor in it; other leaves stay as they are."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tree(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [map_tree(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # a named tuple takes them singly
    return tree


@dataclass(frozen=True)
class CustomMemory:
    """What `prepare_memory` made for B utterances."""

    tree: Tree

    def select(self, utterances: Tensor) -> CustomMemory:
        """That of the `utterances` (N,), which are a part of the batch."""
        return CustomMemory(map_tree(lambda tensor: tensor[utterances], self.tree))


@dataclass
class CustomState:
    """What `step` keeps of the B * K hypotheses; None before the first token."""

    tree: Tree = None

    def select(self, rows: Tensor) -> None:
        """Go on with some of the hypotheses, (N,), in this order."""
        self.tree = map_tree(lambda tensor: tensor[rows], self.tree)


def _tree_of(memory: CustomMemory | None) -> Tree | None:
    return None if memory is None else memory.tree


class CustomDecoder(Decoder):
    """`classify` and `step` of a user's network as a decoder; `mixing` is as the project's own decoder has it."""

    def __init__(self, network: CustomModel, placement: tuple[int, ...]) -> None:
        nn.Module.__init__(self)
        self.placement = placement
        self._network = (network,)  # in a tuple, as the recogniser has it as a part already
        self.register_buffer("mixing", None, persistent=False)

    def classify(self, tokens: Tensor, memory: Any) -> list[Tensor]:
        """Logits (B, U, V) of all classifiers, the final one last; without memory, without audio."""
        return list(self._network[0].classify(tokens, _tree_of(memory)))

    def final_logits(self, tokens: Tensor, memory: Any) -> Tensor:
        """Logits (B, U, V) of the final classifier."""
        return self.classify(tokens, memory)[-1]

    def new_caches(self) -> list[Any]:
        """A state for `step` that knows no token yet."""
        return [CustomState()]

    def step(self, tokens: Tensor, memory: Any, caches: list[Any]) -> Tensor:
        """One more token of each hypothesis: ids (B, K) -> logits (B, K, V) of the token after it, mixed if set so."""
        (state,) = caches
        logits, state.tree = self._network[0].step(tokens, _tree_of(memory), state.tree)
        return logits[-1] if self.mixing is None else mix_logits(list(logits), self.mixing)


class CustomRecogniser(Recogniser):
    """A recogniser of a recipe with a `custom_model`. It has no `encoder`, and its `decoder` no layers: what asks for
    these is refused before it gets here."""

    def __init__(self, recipe: Recipe, network: CustomModel) -> None:
        nn.Module.__init__(self)
        self.read_recipe(recipe)
        assert isinstance(network, nn.Module)
        self.network: Any = network
        self.decoder = CustomDecoder(network, recipe.loss.auxiliary.placement)
        if recipe.decoding.mixing != "none":
            self.decoder.mixing = torch.tensor(recipe.decoding.mixing)

    def encode_states(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, 80), lengths (B,) in frames -> states (B, S, D), their lengths (B,)."""
        return self.network.encode(features, lengths)

    def add_ctc(self, states: Tensor, lengths: Tensor) -> EncoderOutput:
        """The states (B, S, D) of `encode_states` with the logits of the CTC head."""
        return EncoderOutput(states, lengths, self.network.ctc(states))

    def encode_layers(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], EncoderOutput]:
        """No lower layers, since a recipe with InterCTC is refused, and what `encode` gives."""
        return [], self.encode(features, lengths)

    def prepare_memory(self, encoded: EncoderOutput) -> Any:
        """What the decoder reads of the utterances."""
        return CustomMemory(self.network.prepare_memory(encoded.states, encoded.lengths))

    def loss(
        self,
        features: Tensor,
        lengths: Tensor,
        labels: Tensor,
        label_smoothing: float | None = None,
        counts: losses.Counts | None = None,
    ) -> losses.Losses:
        """The network's own loss where it has one, else that of the project's own."""
        if not isinstance(self.network, HasLoss):
            return super().loss(features, lengths, labels, label_smoothing, counts)
        return self.network.loss(features, lengths, labels.long(), counts or losses.count_targets(labels))
