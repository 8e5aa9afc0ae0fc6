"""How good a segmentation is: the DAVIS measures, results on disk, tables and pictures."""
