"""`python -m nearhall` is the `nearhall` command."""

from nearhall.cli.main import main

if __name__ == "__main__":
    main()
