"""`lm`: train a language model to decode with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model.errors import UserError

if TYPE_CHECKING:
    from model.data.tokenizer import Tokenizer
    from model.lm.building import Text
    from model.lm.files import LanguageModel
    from model.recipe.recipe import Recipe

Kind = Literal["ngram", "transformer"]


def lm(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="folder of a run, a trial or an exported model, a recipe file, or with --corpus tiny, small or base",
            show_default=False,
        ),
    ],
    corpus: Annotated[Path | None, typer.Option(help="the corpus of a recipe that is given by its name")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="the file to write")] = Path("lm.safetensors"),
    kind: Annotated[Kind, typer.Option(help="counts of pieces, or a network")] = "ngram",
    text: Annotated[
        list[Path] | None,
        typer.Option(help="sentences to learn from, one a line; may be given more than once  [default: the corpus']"),
    ] = None,
    dev_text: Annotated[
        Path | None, typer.Option(help="sentences to measure on, one a line  [default: the corpus' dev sets]")
    ] = None,
    normaliser: Annotated[str, typer.Option(help="of these files: none, basic, whisper-english")] = "none",
    order: Annotated[int, typer.Option(min=1, max=8, help="ngram: pieces of the longest n-grams")] = 4,
    layers: Annotated[int, typer.Option(min=1, help="transformer: its layers")] = 4,
    width: Annotated[int, typer.Option(min=2, help="transformer: of the states")] = 256,
    heads: Annotated[int, typer.Option(min=1, help="transformer: of self-attention")] = 4,
    feed_forward: Annotated[int, typer.Option(min=1, help="transformer: inner width")] = 1024,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9, help="transformer: its probability")] = 0.1,
    epochs: Annotated[
        int, typer.Option(min=1, help="transformer: at most; it ends when the dev text gains no more")
    ] = 30,
    seed: Annotated[int, typer.Option(help="transformer: of weights and batches")] = 0,
) -> None:
    """Train a language model for the tokenizer of a model, and print its perplexity on the dev text.

    Name the file in the recipe's decoding.lm, or give it to evaluate --lm and transcribe --lm. Without --text and
    --dev-text it learns from the texts of the corpus of the model.
    """
    from model.lm.building import build_ngram, build_transformer, describe_size
    from model.lm.files import save_lm
    from model.lm.transformer import TransformerLmConfig
    from model.lm.transformer_training import LmTraining
    from model.runtime.distributed import current_context
    from model.runtime.memory import keep_freed_memory
    from model.strict import validate

    keep_freed_memory()
    recipe, tokenizer = load_source(source, corpus)
    train, dev = read_texts(recipe, tokenizer, text or [], dev_text, normaliser)
    bos = recipe.tokenizer.special.bos
    model: LanguageModel
    if kind == "ngram":
        model, header = build_ngram(train, dev, tokenizer, bos, order)
    else:
        sizes = {"layers": layers, "width": width, "heads": heads, "feed_forward": feed_forward, "dropout": dropout}
        config, training = validate(TransformerLmConfig, sizes, "lm"), LmTraining(epochs=epochs, seed=seed)
        scene = tokenizer, bos, config, training, report_epoch, current_context().device
        model, header = build_transformer(train, dev, *scene)
    save_lm(out, model, header)
    typer.echo(f"{describe_size(model)}, from {len(train.sentences):,} sentences with {train.tokens:,} tokens")
    typer.echo(describe_perplexity(header.dev_perplexity, dev))
    typer.echo(f"written to {out}")


def report_epoch(epoch: int, perplexity: float) -> None:
    """Print how far a training is."""
    typer.echo(f"epoch {epoch}: dev perplexity {perplexity:.2f}")


def describe_perplexity(perplexity: float | None, dev: Text) -> str:
    """The perplexity of a dev text by its tokens, and by its words, which other tokenizers can be compared by."""
    if perplexity is None:
        return "dev perplexity not measured: the dev text holds no sentence"
    of_words = perplexity ** (dev.tokens / dev.words)
    return f"dev perplexity {perplexity:.2f} of tokens, {of_words:.1f} of words, on {len(dev.sentences):,} sentences"


def load_source(source: Path, corpus: Path | None = None) -> tuple[Recipe, Tokenizer]:
    """The recipe and the tokenizer of a recipe file, of a run's folder or of a model folder.

    With a corpus, of the named recipe on it: trials of a study that starts from that recipe have this tokenizer.
    """
    from model.data.recipe_inputs import load_corpus, load_run_tokenizer, load_tokenizer
    from model.recipe.files import named_recipe, read_recipe
    from model.weights.model_folder import is_model_folder, read_folder_recipe

    if source.is_file() or corpus is not None:
        recipe = read_recipe(source) if corpus is None else named_recipe(str(source), str(corpus.resolve()))
        return recipe, load_tokenizer(recipe, load_corpus(recipe))
    if not (source / "recipe.yaml").is_file():
        raise UserError(f"{source}: is no recipe file and no folder with a recipe.yaml; give one, or add --corpus")
    recipe = read_folder_recipe(source) if is_model_folder(source) else read_recipe(source / "recipe.yaml")
    return recipe, load_run_tokenizer(recipe, source)


def read_texts(
    recipe: Recipe, tokenizer: Tokenizer, text: Sequence[Path], dev_text: Path | None, normaliser: str
) -> tuple[Text, Text]:
    """The training text and the dev text, in files or, where none is given, in the recipe's corpus."""
    from model.data.recipe_inputs import load_corpus
    from model.lm.building import encode_text, read_corpus_sentences, read_sentences

    train = [line for path in text for line in read_sentences(path, normaliser)]
    dev = list(read_sentences(dev_text, normaliser)) if dev_text is not None else []
    if not text or dev_text is None:
        corpus = load_corpus(recipe)
        train = train if text else read_corpus_sentences(corpus, "train")
        dev = dev if dev_text is not None else read_corpus_sentences(corpus, "dev")
    return encode_text(train, tokenizer), encode_text(dev, tokenizer)
