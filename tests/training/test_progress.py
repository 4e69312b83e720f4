"""What a run's line of progress says of it."""

from runs import SETTINGS, data, network

from gapscope.measures.training_run import latest
from gapscope.training.loop import Training


def test_it_says_the_latest_error_and_loss_by_their_names() -> None:
    training = Training(network(), data(), SETTINGS, batch_size=20, epochs=2, seed=3, device="cpu")
    assert latest(training) == ""
    for epoch in training:
        row = training.state.history[-1]
        assert row["epoch"] == epoch
        error, loss = row["test_error_pct_running"], row["train_cross_entropy_running"]
        assert latest(training) == f"test error {error:.3g} %, train cross entropy {loss:.3g}"
