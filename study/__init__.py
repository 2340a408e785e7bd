"""What a trial and a study mean: space, searcher, driver, ledger, tracking, results and the command line."""
