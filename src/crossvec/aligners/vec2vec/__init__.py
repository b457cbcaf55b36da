"""vec2vec — the unpaired translator of arXiv:2505.12540: adapters around one backbone, trained against discriminators."""
