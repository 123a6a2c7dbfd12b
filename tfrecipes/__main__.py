"""`python -m tfrecipes` is `tfrecipes`."""

from tfrecipes.cli import main

if __name__ == "__main__":
    main()
