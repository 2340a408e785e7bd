"""Language models over the tokenizer's pieces: n-gram, Transformer, and the recogniser's internal one."""
