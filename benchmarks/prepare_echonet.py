"""Speed and memory of `echodiff prepare echonet-dynamic` on fabricated data.

    python benchmarks/prepare_echonet.py --videos 100 10000 --rounds 2

Every tree is N names (hard links) of one Motion JPEG clip, 112x112 and 200 frames, and tables as
long as the real ones. The clip stays in the page cache: reading a disk is not measured. Memory is
the sum over main process and workers of what each takes alone and its share of what they share
(PSS), the peak of samples; beside it the peak resident size of the main process. Linux.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

SIZE, NUM_FRAMES = 112, 200


def write_clip(path: Path) -> None:
    """A moving pattern under speckle, about as many bytes a frame as the real clips have."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=50)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 3
        for index in range(NUM_FRAMES):
            image = 120 + 80 * np.sin(columns / 9 + index / 7) * np.cos(rows / 11)
            image = (image + rng.normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))


def write_tree(root: Path, num_videos: int, clip: Path) -> None:
    (root / "Videos").mkdir(parents=True)
    with (
        (root / "FileList.csv").open("w") as files,
        (root / "VolumeTracings.csv").open("w") as tracings,
    ):
        files.write("FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split\n")
        tracings.write("FileName,X1,Y1,X2,Y2,Frame\n")
        for number in range(num_videos):
            name = f"0X{2**60 + number * 7919:016X}"
            split = ("TRAIN", "VAL", "TEST")[number % 3]
            volumes = f"{20 + number % 50}.123456,{70 + number % 80}.223456"
            files.write(f"{name},{30 + number % 50}.5,{volumes},112,112,50,{NUM_FRAMES},{split}\n")
            # ED and ES fall anywhere in a clip.
            for frame, half in ((number % 150, 20), (number % 150 + 25, 30)):
                tracings.write(f"{name}.avi,56.5,20.5,56.5,90.5,{frame}\n")
                for y in np.linspace(20.5, 90.5, 20):
                    chord = f"{56.5 - half:.7f},{y:.7f},{56.5 + half:.7f},{y:.7f}"
                    tracings.write(f"{name}.avi,{chord},{frame}\n")
            os.link(clip, root / "Videos" / f"{name}.avi")


class Measured(NamedTuple):
    seconds: float
    cpu_seconds: float
    """Of all processes: what is left of the speed when something else runs on the machine."""
    peak_sum_mb: float
    peak_main_mb: float


def measure(root: Path, out: Path, workers: int) -> Measured:
    command = [sys.executable, "-m", "echodiff", "prepare", "echonet-dynamic", str(root)]
    command += ["--out", str(out), "--workers", str(workers)]
    begun, cpu_begun = time.perf_counter(), cpu_of_children()
    peak_sum = peak_main = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            try:
                pids = [str(process.pid), *children.read_text().split()]
                peak_sum = max(peak_sum, sum(read_kb(pid, "smaps_rollup", "Pss:") for pid in pids))
                peak_main = max(peak_main, read_kb(pids[0], "status", "VmHWM:"))
            except OSError:  # it ended in between
                continue
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    seconds, cpu_seconds = time.perf_counter() - begun, cpu_of_children() - cpu_begun
    return Measured(seconds, cpu_seconds, peak_sum / 1024, peak_main / 1024)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_kb(pid: str, file: str, key: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(key):
            return float(line.split()[1])
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.avi"
        write_clip(clip)
        print(f"clip: {clip.stat().st_size / 1024:.0f} KiB; {options.workers} workers")
        for num_videos in options.videos:
            write_tree(Path(folder) / f"{num_videos}", num_videos, clip)
        for number in range(options.rounds):
            for num_videos in options.videos:
                out = Path(folder) / f"out-{number}-{num_videos}"
                root = Path(folder) / f"{num_videos}"
                found = measure(root, out, options.workers)
                print(
                    f"{num_videos:6d} videos: {found.seconds:6.1f} s, "
                    f"{num_videos / found.seconds:6.1f} videos/s, "
                    f"{1000 * found.cpu_seconds / num_videos:5.1f} CPU ms/video; peak of all "
                    f"processes {found.peak_sum_mb:6.1f} MB, main {found.peak_main_mb:6.1f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
