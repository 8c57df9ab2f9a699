"""Training and evaluation of the risk model on the shipped students."""
