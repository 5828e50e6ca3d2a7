"""Four-phase segmentation of lithium-ion electrode tomograms (Müller, Sauter et al., Nat. Commun. 12:6205, 2021)."""

__version__ = "0.1.0"
