"""A DeCRED recogniser that can be trained, scored and decoded alone, without Ray, MLflow or Optuna."""
