"""What is on disk, and what is sampled from it: sequences, few-shot tasks, and their data module.

Sources (davis, youtube_vos, folder, stills, coco, synthetic) do not import torch until a frame is read:
building one is the start-up check of the data, and must answer quickly.
"""
