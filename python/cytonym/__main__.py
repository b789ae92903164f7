"""`python -m cytonym` is the command `cytonym`."""

from .cli import main

if __name__ == "__main__":
    main()
