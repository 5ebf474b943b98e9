"""CPU seconds of `generate.py` from its start to the first denoising step of the embedded base.

    python benchmarks/start.py                              # this checkout
    python benchmarks/start.py --against OTHER --rounds 5   # another checkout, alternately

Each run is a process of its own and stops where the UNet is called for the first time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

CHILD = """
import json, os, resource, runpy, sys

class Watch:  # torch's own hook, registered when the UNet's module is about to be imported
    def find_spec(self, name, path=None, target=None):
        if name == "diffusers.models.unets.unet_2d_condition":
            from torch.nn.modules.module import register_module_forward_pre_hook
            register_module_forward_pre_hook(self.stop)

    def stop(self, module, arguments):
        if type(module).__name__ == "UNet2DConditionModel":
            used = resource.getrusage(resource.RUSAGE_SELF)
            seconds = used.ru_utime + used.ru_stime
            print(json.dumps({"cpu_seconds": seconds, "modules": sorted(sys.modules)}), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measure(checkout: Path) -> dict:
    """`cpu_seconds` up to the first denoising step, and the `modules` imported by then."""
    with tempfile.TemporaryDirectory() as place:
        flags = ["--weights", "none", "--base", "tiny", "--num-images", "1", "--features", "tiny"]
        command = f"import sys; del sys.argv[0]\n{CHILD}"
        done = subprocess.run(
            [sys.executable, "-c", command, str(checkout / "generate.py"), *flags,
             "--prompt-file", str(checkout / "prompts" / "asd.txt"), "--out", f"{place}/out"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout, measured alternately")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    checkouts = [ROOT, *([args.against.resolve()] if args.against else [])]
    seconds: list[list[float]] = [[] for _ in checkouts]
    for _ in range(args.rounds):
        for taken, checkout in zip(seconds, checkouts, strict=True):
            taken.append(measure(checkout)["cpu_seconds"])
    for checkout, taken in zip(checkouts, seconds, strict=True):
        least, most = min(taken), max(taken)
        print(f"{statistics.median(taken):.2f} CPU s ({least:.2f} to {most:.2f}): {checkout}")
    if len(checkouts) == 2:
        ratios = [ours / theirs for ours, theirs in zip(*seconds, strict=True)]
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
