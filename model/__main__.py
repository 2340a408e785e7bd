"""`python -m model train|mix|evaluate|import`: single recipes in this process, without Ray, MLflow or Optuna."""

from model.commands.app import main

main()
