"""`python -m chargen` is the command `chargen`."""

from .cli.main import main

if __name__ == "__main__":
    main()
