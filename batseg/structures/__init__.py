"""Artificial electrodes (paper, Fig. 5a-b): a recipe of fractions, particles and binder becomes a label volume."""
