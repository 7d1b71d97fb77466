"""``python -m llmbatch``, and the console script."""

from llmbatch.app.cli import main

if __name__ == "__main__":
    main()
