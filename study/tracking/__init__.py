"""MLflow: what its runs hold and how they follow the ledger; everything that knows MLflow."""
