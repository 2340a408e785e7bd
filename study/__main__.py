"""`python -m study` is `decred-study`."""

from study.cli import main

main()
