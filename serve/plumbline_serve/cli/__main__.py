"""`python -m plumbline_serve.cli` is the `plumbline` command."""

from plumbline_serve.cli.main import main

main()
