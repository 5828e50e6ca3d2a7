"""Scores of a segmentation against a truth: overlap from one confusion matrix, distances from one distance table.

Source: paper, Table 1 and Table S2; Taha & Hanbury, BMC Medical Imaging 15:29 (2015).
"""

from batseg.evaluation.overlap import confusion_matrix as confusion_matrix
from batseg.evaluation.overlap import dice as dice
from batseg.evaluation.overlap import mean_dice as mean_dice
