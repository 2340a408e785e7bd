from __future__ import annotations

import torch

from model.decoding.ctc_greedy import decode_ctc_greedy
from model.network.recogniser import EncoderOutput, Recogniser


def test_the_best_path_collapses_repeats_then_removes_blanks_and_stops_at_the_utterances_length(make_recipe) -> None:
    model = Recogniser(make_recipe())
    b = model.blank
    paths = torch.tensor([[5, 5, b, 5, 7, 7, b], [b, 6, 6, b, b, 9, 9], [b, b, b, 4, 4, 4, 4]])
    logits = torch.nn.functional.one_hot(paths, b + 1).float()
    encoded = EncoderOutput(torch.zeros(3, 7, 16), torch.tensor([7, 5, 3]), logits)
    assert decode_ctc_greedy(model, encoded) == [[5, 5, 7], [6], []]
