"""Descriptors of labelled volumes: interfaces, correlations, chords, local thickness, particles, connectivity."""
