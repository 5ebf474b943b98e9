import numpy as np
import torch
from safetensors.numpy import load_file

from echodiff.data.screens import text_network
from echodiff.images import write_image
from echodiff.pretrain.text_finder import TextFinder, fold, main


def test_what_torch_trained_numpy_runs(monkeypatch):
    torch.manual_seed(0)
    network = TextFinder()
    network(torch.rand(4, 1, 96, 96))  # running means and variances of their own
    network.eval()
    monkeypatch.setattr(text_network, "load_weights", lambda name: fold(network))
    image = np.random.default_rng(0).integers(0, 256, (61, 98)).astype(np.uint8)
    with torch.no_grad():
        wanted = torch.sigmoid(network(torch.from_numpy(image)[None, None] / 255))[0, 0].numpy()
    np.testing.assert_allclose(text_network.score_text(image), wanted, atol=1e-5)


def test_a_training_stops_goes_on_and_ends_with_the_same_weights(tmp_path):
    for number in range(3):
        image = np.full((128, 160), 40 * number, np.uint8)
        write_image(tmp_path / f"frames/{number}.png", image)
    weights = []
    for name in ("a", "b"):
        flags = ["--num-patches", "40", "--steps", "4", "--out", str(tmp_path / name)]
        (tmp_path / name).mkdir()
        main([str(tmp_path / "frames"), *flags])
        if name == "b":  # stopped before the weights were written
            (tmp_path / "b/model.safetensors").unlink()
            (tmp_path / "b/scout.safetensors").unlink()
            (tmp_path / "b/stage-2.pt").unlink()
            (tmp_path / "b/stage-4.pt").unlink()
            main([str(tmp_path / "frames"), *flags])
        weights.append(
            load_file(tmp_path / name / "model.safetensors")
            | {
                f"scout.{part}": value
                for part, value in load_file(tmp_path / name / "scout.safetensors").items()
            }
        )
    for part in weights[0]:
        np.testing.assert_array_equal(weights[0][part], weights[1][part])
