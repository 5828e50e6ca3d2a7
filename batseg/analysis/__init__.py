"""Microstructure analysis of segmented electrodes: Figures 7 and 8, Table 2 and Supplementary Note 7 of the paper."""
