"""``python -m deepgen.cli``."""

from deepgen.cli.parser import main

if __name__ == "__main__":
    main()
