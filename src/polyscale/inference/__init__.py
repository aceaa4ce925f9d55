"""Prediction: a checkpoint and an image to labels, probabilities and the attention of each scale.

Nothing is imported here: ``pictures`` needs only numpy and Pillow, and whoever uses it should not wait for torch.
"""
