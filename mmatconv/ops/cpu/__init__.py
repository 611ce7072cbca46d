"""Fast paths for a CPU: products by oneDNN, channel mixers in tiles. Only ``ops/products.py`` calls them."""
