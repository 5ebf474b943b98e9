"""What synthetic frames are good for: segmentation trained with them, tested on real patients."""
