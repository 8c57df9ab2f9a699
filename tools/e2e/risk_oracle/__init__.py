"""The risk topics a log must produce, computed a second time in plain Python, and the differences from them."""
