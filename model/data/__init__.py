"""From a corpus to batches: features, tokenizer, augmentation, the order of the utterances."""
