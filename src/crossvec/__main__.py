"""__main__ — `python -m crossvec` is `crossvec`."""

from crossvec.cli import main

if __name__ == "__main__":
    main()
