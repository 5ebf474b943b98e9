"""Fixtures every test may use: a tiny random Stable Diffusion, a small frames folder."""

import importlib.util
import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker a core: with a thread for every core each, they would wait for one another. Torch
    # reads it when it is imported, and so do the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST_FILES = (
    "test_train_lora_kills", "test_pretrain", "test_train_lora", "test_generate", "test_faults",
    "test_first_use", "test_loss_curve", "test_train_evaluate", "test_demo", "test_assets",
)  # fmt: skip
"""Begun first where there are several workers, so that none is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays with one worker, so that what its tests share is made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # by the number of tests: long files would come last
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def cache_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features that tests compute, also in processes of their own, stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ECHODIFF_CACHE", str(tmp_path_factory.mktemp("echodiff-cache")))
        yield


CAPTION_WORDS = """
    four chamber view apical echocardiogram of the heart adult child with without secundum primum
    ASD VSD LVH atrial ventricular septal defect septum intact hypertrophy dilated left right
    ventricle atrium cavities not no position side unchanged normal walls valve valves mitral
    tricuspid end diastole systole transthoracic B-mode image , . ( )
"""


def build_tokenizer(folder: Path) -> Any:
    """A byte-pair CLIP tokenizer of a few hundred entries, trained on the words above."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    words = CAPTION_WORDS.lower().split()
    tokenizer.train_from_iterator([word for word in words for _ in range(3)], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if not line.startswith("#")]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def build_tiny_pipeline(folder: Path, *, cross_attention_dim: int = 32) -> Any:
    """Stable Diffusion classes at toy size: 32x32 images, 8x8 latents, random weights."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = build_tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            sample_size=32,
            block_out_channels=(16, 16, 32),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=8,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=cross_attention_dim,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=77,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="session")
def tiny_random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with the classes of SD 1.5 at toy size; never written to by a test."""
    folder = tmp_path_factory.mktemp("base")
    build_tiny_pipeline(folder / "vocabulary").save_pretrained(folder / "tiny-random")
    return folder / "tiny-random"


def write_toy_frames(
    folder: Path, *, captioned: int = 6, null: int = 6, size: int = 32, num_patients: int = 6
) -> Path:
    """A frames folder of soft blobs: captioned rows first, then null-text rows."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(captioned + null):
        grain = rng.normal(0, 12, (size, size))
        y, x = np.mgrid[:size, :size] / size - 0.5
        image = 200 * np.exp(-8 * (x**2 + y**2) * (1 + index % 3)) + grain
        name = f"images/{index:04d}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / name)
        text = f"four chamber view , ASD , child {index}" if index < captioned else ""
        patient = f"p{index % num_patients}"
        rows.append({"file_name": name, "text": text, "patient_id": patient})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture
def make_frames(tmp_path: Path) -> Callable[..., Path]:
    """`make_frames(name, captioned=6, null=6, size=32, num_patients=6)` -> a frames folder."""
    return lambda name, **counts: write_toy_frames(tmp_path / name, **counts)


@pytest.fixture(scope="session")
def other_random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another toy base, with another text width: adapters of the one do not fit the other."""
    folder = tmp_path_factory.mktemp("other")
    pipeline = build_tiny_pipeline(folder / "vocabulary", cross_attention_dim=48)
    pipeline.save_pretrained(folder / "other-random")
    return folder / "other-random"


@pytest.fixture(scope="module")
def full_size_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder in the sizes of SD 1.5, 2 GB of random weights; for slow and gpu tests."""
    folder = tmp_path_factory.mktemp("full") / "sd15"
    load_script("benchmarks/random_sd15").save_random_sd15(folder)
    return folder


@pytest.fixture
def fresh_accelerate() -> Iterator[Callable[[], None]]:
    """Accelerate keeps one state a process; this forgets it before and after, and when called."""
    from accelerate.state import AcceleratorState, GradientState

    def forget() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    forget()
    yield forget
    forget()


@pytest.fixture(scope="session")
def train_script() -> ModuleType:
    """`train_lora.py` as a module."""
    return load_script("train_lora")


@pytest.fixture
def train_lora(
    train_script: ModuleType, tiny_random_base: Path, fresh_accelerate: Callable[[], None]
) -> Callable[..., None]:
    """`train_lora("--data", folder, ...)` runs the script in this process on the toy base."""

    def run(*flags: object) -> None:
        fresh_accelerate()
        train_script.main(["--base", str(tiny_random_base), "--threads", "1", *map(str, flags)])

    return run


@pytest.fixture
def refusal(
    train_lora: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`refusal("--data", folder, ...)`: the one line with which the training is refused."""
    from echodiff.settings.command_line import run_main

    def run(*flags: object) -> str:
        capsys.readouterr()
        status = run_main(lambda: train_lora(*flags), "train_lora.py")
        printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
        lines = [line for line in printed if line.strip() and not line.endswith("/s)")]
        assert status == 2
        assert len(lines) == 1, lines
        return lines[0]

    return run


@pytest.fixture
def assert_accepted(
    train_lora: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], None]:
    """`assert_accepted(folder)`: datasets opens the frames, and training takes a step on them."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")

    def run(folder: Path) -> None:
        from datasets import load_dataset

        rows = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        opened = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "hf"))
        assert sum(part.num_rows for part in opened.values()) == len(rows)
        out = tmp_path / "run-on-it"
        train_lora("--data", folder, "--resolution", 32, "--max-steps", 1, "--batch-size", 1,
                   "--out", out)  # fmt: skip
        assert (out / "pytorch_lora_weights.safetensors").is_file()

    return run


@pytest.fixture
def tape() -> Any:
    """The class `Tape`, in place of `CudaGraph`; `tape.made` are those of this test."""
    return load_script("tests/tape").Tape


@pytest.fixture(scope="session")
def masked_frames() -> ModuleType:
    """`masked_frames.write_masked_frames(folder)`: frames with masks; `draw_mask(index, size)`."""
    return load_script("tests/masked_frames")


@pytest.fixture(scope="session")
def load_benchmark() -> Callable[[str], ModuleType]:
    """`load_benchmark("faults")`: a script of `benchmarks/` as a module."""
    return lambda name: load_script(f"benchmarks/{name}")


def load_script(name: str) -> ModuleType:
    """Import a script from the top of the clone."""
    path = Path(__file__).parent.parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy_frames(tmp_path: Path) -> Path:
    """Six captioned and six null-text 32x32 frames of six patients."""
    return write_toy_frames(tmp_path / "frames")


@pytest.fixture(scope="session")
def forks() -> Any:
    """Processes begin as copies of one that has everything imported, and no threads yet: a start
    takes a second and not eight."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
            "diffusers.schedulers.scheduling_ddpm",
            "diffusers.loaders.peft",
            "diffusers.guiders",
            "jsonargparse",
            "peft",
            "typeshed_client",
            "echodiff.diffusion.sampling.drawing",
            "echodiff.diffusion.trainer",
            "echodiff.diffusion.memory",
            "echodiff.evaluate",
            "echodiff.metrics.held_out",
            "echodiff.report.page",
            "echodiff.training.folder",
            "echodiff.training.precision",
        ]
    )
    return context


@pytest.fixture
def fork_script(
    forks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Any]]:
    """`fork_script(script, flags, num_processes=1)`: its processes, started in `tmp_path` and
    joined as torchrun joins them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from forked_run import run_script

    def start(script: str, flags: list[str], *, num_processes: int = 1) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        joined = {"WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes = []
        for rank in map(str, range(num_processes)):
            environment = {"OMP_NUM_THREADS": "1"}
            if num_processes > 1:
                environment |= {"RANK": rank, "LOCAL_RANK": rank, **joined}
            arguments = (script, flags, environment, tmp_path)
            processes.append(forks.Process(target=run_script, args=arguments))
            processes[-1].start()
        return processes

    return start


@pytest.fixture(scope="session")
def hearts() -> Callable[..., Path]:
    """`write_hearts(folder, num)`: frames with masks that a network learns in a few steps."""
    write: Callable[..., Path] = load_script("tests/hearts").write_hearts
    return write


@pytest.fixture(scope="session")
def write_fans() -> Callable[..., Path]:
    """`write_fans(folder, count, seed=0, size=96, ...)`: frames of fans, drawn in milliseconds."""
    write: Callable[..., Path] = load_script("tests/fans").write_fans
    return write
