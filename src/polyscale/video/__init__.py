"""Video: what a network sees in it, and another background behind what it sees."""

from polyscale.video.background import Scene, background_of_image, background_of_video
from polyscale.video.run import VideoSummary, label_video

__all__ = ["Scene", "VideoSummary", "background_of_image", "background_of_video", "label_video"]
