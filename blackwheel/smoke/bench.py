"""How fast: attention of a wheel on a GPU, and a served model, each comparable with another."""
