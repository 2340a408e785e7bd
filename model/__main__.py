"""`python -m model train|mix|evaluate`: one recipe in this process, without Ray, MLflow or Optuna.

python -m model train recipe.yaml --out runs/first
python -m model evaluate runs/first --beam 4 --ctc-weight 0.3
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from model.commands.alone import evaluate_checkpoint, mix_checkpoint, set_lines, train_recipe
from model.errors import NonFiniteLossError, OutOfMemoryError, UserError


def main() -> int:
    """Exit status 2 when the input is wrong, 1 when the training broke."""
    arguments = _parser().parse_args()
    try:
        if arguments.command == "train":
            train_recipe(arguments.recipe, arguments.out, print)
        elif arguments.command == "mix":
            mix_checkpoint(arguments.folder, arguments.per_token, arguments.epochs, print)
        else:
            changes = arguments.beam, arguments.ctc_weight, arguments.corpus, arguments.mixed
            metrics = evaluate_checkpoint(arguments.folder, *changes)
            print("\n".join(set_lines(metrics)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NonFiniteLossError, OutOfMemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model", description="Train or score one recipe, without Ray.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a recipe; goes on from the folder's last checkpoint")
    train.add_argument("recipe", type=Path)
    train.add_argument("--out", type=Path, default=Path("runs/alone"), help="folder of the run (default: %(default)s)")
    mix = commands.add_parser("mix", help="learn to mix the classifiers of the last checkpoint of a run's folder")
    mix.add_argument("folder", type=Path)
    mix.add_argument("--per-token", action="store_true", help="a weight for each token, not for each classifier alone")
    mix.add_argument("--epochs", type=int, default=3, help="passes over the training set (default: %(default)s)")
    evaluate = commands.add_parser("evaluate", help="score the last checkpoint of a run's folder")
    evaluate.add_argument("folder", type=Path)
    evaluate.add_argument("--beam", type=int, help="hypotheses kept an utterance (default: the recipe's)")
    evaluate.add_argument("--ctc-weight", type=float, help="weight of CTC in decoding (default: the recipe's)")
    evaluate.add_argument("--corpus", type=Path, help="another corpus to score on")
    evaluate.add_argument("--mixed", action="store_true", help="decode with the weights that `mix` learned")
    return parser


if __name__ == "__main__":
    sys.exit(main())
