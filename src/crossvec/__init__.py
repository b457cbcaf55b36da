"""crossvec — translate embeddings between models without pairs, and measure what leaked vectors give away."""

__version__ = "0.1.0"
