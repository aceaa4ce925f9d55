"""What `polyscale video` costs beside its network, and what smoothing does to flicker, on a clip.

The network's own time is that of showing it the decoded frames one after the other, without drawing or writing. Both
are measured in turn in one process.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from record import save, show

import polyscale
from polyscale.video import label_video
from polyscale.video.source import Frame, open_source


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("clip")
    parser.add_argument("--scales", default="1")
    parser.add_argument("--smooth", default="0,0.7")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; by default benchmarks/results")
    arguments = parser.parse_args()
    scales = [float(scale) for scale in arguments.scales.split(",")]
    predictor = polyscale.load(arguments.network)
    source = open_source(arguments.clip)
    frames = [item.pixels for item in source.frames() if isinstance(item, Frame)]
    source.close()

    def alone() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        for pixels in frames:
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
            predictor.looker.look(image, scales)
        return time.perf_counter() - wall, time.process_time() - cpu

    predictor.looker.look(torch.from_numpy(frames[0]).permute(2, 0, 1)[None].float() / 255, scales)
    rows = []
    for share in (float(part) for part in arguments.smooth.split(",")):
        network = alone()
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            summary = label_video(predictor, arguments.clip, Path(folder) / "out.mp4", scales=scales, smooth=share)
            total = time.perf_counter() - wall, time.process_time() - cpu
        rows.append(
            {
                "smooth": share,
                "network_seconds": network[0],
                "video_seconds": total[0],
                "ratio": total[0] / network[0],
                "network_cpu_seconds": network[1],
                "video_cpu_seconds": total[1],
                "waited_for_frames_and_file": summary.timing.reading + summary.timing.writing,
                "flicker": summary.flicker,
                "smoothed_flicker": summary.smoothed_flicker,
            }
        )
    shown = []
    for row in rows:
        smoothed = "-" if row["smoothed_flicker"] is None else f"{row['smoothed_flicker']:.2%}"
        seconds = [f"{row[key]:.1f}" for key in ("network_seconds", "video_seconds")]
        shown.append([f"{row['smooth']:g}", *seconds, f"{row['ratio']:.2f}", f"{row['flicker']:.2%}", smoothed])
    show(
        f"{len(frames)} frames of {frames[0].shape[1]} x {frames[0].shape[0]}, scales {arguments.scales}",
        ["smooth", "network alone, s", "video, s", "ratio", "flicker", "smoothed"],
        shown,
    )
    facts = {"network": arguments.network, "frames": len(frames), "size": frames[0].shape[:2], "scales": scales}
    save("video", {**facts, "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
