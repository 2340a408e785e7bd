"""A network of one's own: a GRU encoder with a CTC head, and a GRU decoder with attention and auxiliary classifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.recipe.recipe import Recipe

Memory = tuple[Tensor, Tensor]  # states (B, S, D), bias (B, 1, S) that hides padding from attention


class Toy(nn.Module):
    """B utterances, K hypotheses, T frames, S states, U tokens, D width, V vocabulary."""

    def __init__(self, recipe: Recipe, width: int) -> None:
        super().__init__()
        vocabulary, placement = recipe.tokenizer.vocabulary, recipe.loss.auxiliary.placement
        self.classified = (*placement, recipe.decoder.layers)  # layers with a classifier, the final one last
        self.subsample = nn.Conv1d(80, width, kernel_size=4, stride=4)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.blank_last = nn.Linear(width, vocabulary + 1)
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(recipe.decoder.layers))
        self.classifiers = nn.ModuleList(nn.Linear(2 * width, vocabulary) for _ in self.classified)

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states = self.subsample(features.transpose(1, 2)).transpose(1, 2)  # (B, T, 80) -> (B, S, D)
        return self.encoder(states)[0], lengths // 4

    def ctc(self, states: Tensor) -> Tensor:
        return self.blank_last(states)  # (B, S, V + 1)

    def prepare_memory(self, states: Tensor, lengths: Tensor) -> Memory:
        padding = torch.arange(states.shape[1], device=states.device) >= lengths.to(states.device)[:, None]
        return states, torch.zeros_like(states[:, None, :, 0]).masked_fill(padding[:, None], -1e4)

    def classify(self, tokens: Tensor, memory: Memory | None) -> list[Tensor]:
        return self.decode(tokens, memory, [None] * len(self.layers))[0]  # each (B, U, V)

    def step(self, tokens: Tensor, memory: Memory | None, state: list | None) -> tuple[list[Tensor], list[Tensor]]:
        B, K = tokens.shape
        if memory is not None:
            memory = memory[0].repeat_interleave(K, dim=0), memory[1].repeat_interleave(K, dim=0)  # B * K rows
        logits, state = self.decode(tokens.reshape(B * K, 1), memory, state or [None] * len(self.layers))
        return [scores.view(B, K, -1) for scores in logits], state

    def decode(self, tokens: Tensor, memory: Memory | None, state: list) -> tuple[list[Tensor], list[Tensor]]:
        x, logits, after = self.embed(tokens), [], []
        for number, (layer, before) in enumerate(zip(self.layers, state, strict=True), start=1):
            output, last = layer(x, None if before is None else before[None].contiguous())
            x = x + output  # (B, U, D)
            after.append(last[0])  # (B, D)
            if number in self.classified:
                read = torch.zeros_like(x) if memory is None else self.attend(x, *memory)
                logits.append(self.classifiers[len(logits)](torch.cat((x, read), dim=-1)))
        return logits, after

    def attend(self, x: Tensor, states: Tensor, bias: Tensor) -> Tensor:
        return ((x @ states.transpose(1, 2)) / states.shape[2] ** 0.5 + bias).softmax(dim=-1) @ states


def make(recipe: Recipe, width: int = 32) -> Toy:
    """The function that a recipe names: `custom_model: {factory: "toy_model:make", settings: {width: 32}}`."""
    return Toy(recipe, width)
