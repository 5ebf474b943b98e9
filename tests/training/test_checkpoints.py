"""Checkpoints are whole or absent, and hold everything."""

import logging
from pathlib import Path

import pytest
import torch

from echodiff.training import checkpoints
from echodiff.training.checkpoints import (
    load_newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def save(folder: Path, step: int, keep: int = 2) -> Path:
    tensors = {"weight": torch.full((3,), float(step))}
    return save_checkpoint(folder, step=step, tensors=tensors, state={"note": step}, keep=keep)


def test_newest_comes_back_with_tensors_and_state(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 12)
    found = load_newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 12
    assert found.state == {"note": 12}
    assert found.tensors["weight"].tolist() == [12.0] * 3


def test_only_the_newest_are_kept_and_nothing_is_pickled(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003", "step-000010"]
    files = sorted(p.name for p in (tmp_path / "step-000010").iterdir())
    assert files == ["state.json", "tensors.safetensors"]


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_newest_checkpoint(tmp_path / "none") is None


def test_the_old_one_goes_only_after_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, keep=1)

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_safetensors", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2, keep=1)
    found = load_newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_torn_file_falls_back_to_the_one_before(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    torn = save(tmp_path, 2) / name
    torn.write_bytes(torn.read_bytes()[:-4])
    with caplog.at_level(logging.WARNING):
        found = load_newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-000002 is damaged" in caplog.text


def test_adam_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def steps(parameter: torch.nn.Parameter, optimizer: torch.optim.Adam, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (parameter.sin() * torch.arange(4.0)).sum().backward()
            optimizer.step()

    straight = torch.nn.Parameter(torch.ones(4))
    steps(straight, torch.optim.Adam([straight], lr=0.1), 7)

    first = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.Adam([first], lr=0.1)
    steps(first, optimizer, 3)
    tensors = {"p": first, **optimizer_tensors(optimizer, ["p"])}
    save_checkpoint(tmp_path, step=3, tensors=tensors, state={}, keep=1)

    found = load_newest_checkpoint(tmp_path)
    assert found is not None
    second = torch.nn.Parameter(found.tensors["p"])
    optimizer = torch.optim.Adam([second], lr=0.1)
    restore_optimizer(optimizer, ["p"], found.tensors)
    steps(second, optimizer, 4)
    assert torch.equal(second, straight)
