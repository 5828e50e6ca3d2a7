"""Segmentation of volumes of any size: windows in three directions, fused. Source: paper, Fig. 6a, Suppl. Note 6."""

from batseg.inference.prediction import Prediction, predict

__all__ = ["Prediction", "predict"]
