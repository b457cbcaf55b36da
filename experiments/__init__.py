"""experiments — the tables of the vec2vec paper (arXiv:2505.12540), run again: `python -m experiments NAME`."""
