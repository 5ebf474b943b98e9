"""The moving average of weights."""

import torch

from echodiff.training.average import average_pull, averaged, update_average


def test_average_follows_and_early_steps_count_more() -> None:
    average = {"w": torch.zeros(2)}
    update_average(average, {"w": torch.ones(2)}, average_pull(0.99, step=1))
    torch.testing.assert_close(average["w"], torch.full((2,), 1 - 2 / 11))
    late = {"w": torch.zeros(2)}
    update_average(late, {"w": torch.ones(2)}, average_pull(0.99, step=100_000))
    torch.testing.assert_close(late["w"], torch.full((2,), 0.01))


def test_averaged_puts_the_weights_back() -> None:
    parameters = {"w": torch.nn.Parameter(torch.ones(2))}
    with averaged(parameters, {"w": torch.zeros(2)}):
        assert parameters["w"].tolist() == [0.0, 0.0]
    assert parameters["w"].tolist() == [1.0, 1.0]


def test_without_an_average_nothing_moves() -> None:
    parameters = {"w": torch.nn.Parameter(torch.ones(2))}
    with averaged(parameters, {}):
        assert parameters["w"].tolist() == [1.0, 1.0]
