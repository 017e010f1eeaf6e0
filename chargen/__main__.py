"""`python -m chargen` runs the command `chargen`."""

from chargen.cli.main import main

if __name__ == "__main__":
    main()
