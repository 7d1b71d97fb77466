"""``python -m llmbatch.plugin``, for where the console script is not on PATH."""

from llmbatch.plugin.cli import main

if __name__ == "__main__":
    main()
