"""``python -m deepgen.cli``."""

from deepgen.cli.parser import main

main()
