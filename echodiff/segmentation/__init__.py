"""Segmentation networks by MONAI: trained on frames with masks, to read the masks of images."""
