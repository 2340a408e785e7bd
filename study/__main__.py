"""`python -m study` is `decred-study`."""

from study.cli.main import main

main()
