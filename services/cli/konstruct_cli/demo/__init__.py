"""``konstruct demo``: the main job, shown on real parts. Every line it prints is read from them."""
