# %% [markdown]
# # A first look, in a minute
#
# Train a small network on scikit-learn's digits at a small and at a large batch size. Then measure both. Open this file
# as a notebook (Jupyter with jupytext, or an editor that knows `# %%` cells), or run it in a clone:
# `python examples/first_look.py`.

# %%
import torch
from sklearn.datasets import load_digits
from torch import nn

import gapscope

images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
images = images.float().reshape(-1, 1, 8, 8) / 16
train, test = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


# %% [markdown]
# Both networks start from the same weights and make the same number of passes over the data. The large batch therefore
# makes far fewer updates.


# %%
def trained(batch_size: int, epochs: int = 20) -> nn.Module:
    """Return a network after SGD at one batch size."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(train[0])).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(train[0][batch]), train[1][batch]).backward()
            optimizer.step()
    return network.eval()


networks = {size: trained(size) for size in (32, 600)}
for size, network in networks.items():
    error = (network(test[0]).argmax(1) != test[1]).float().mean()
    print(f"b = {size}: test error {100 * error:.1f} %")

# %% [markdown]
# **Near-rank loss**: how many singular values of the activations are tiny? Structural zeros follow from the shapes of
# the matrices alone, and are counted apart.

# %%
for size, network in networks.items():
    print(f"b = {size}: {gapscope.near_rank(network, train[0][:512])}")

# %% [markdown]
# **Sharpness**: how much can the loss rise in a small box around the weights? The result says whether the maximisation
# converged.

# %%
for size, network in networks.items():
    print(f"b = {size}: {gapscope.sharpness(network, (train[0][:128], train[1][:128]))}")

# %% [markdown]
# **Noise scale**: at which batch size does the gradient's noise equal its signal?

# %%
print(gapscope.noise_scale(networks[600], train))

# %% [markdown]
# **Committed results** are tables. One seed, as above, decides nothing. Here are the claims that three seeds support
# for LeNet-5 on Fashion-MNIST:

# %%
verdicts = gapscope.load("table05").verdicts
print(verdicts.query("verdict == 'supported'")[["claim", "effect", "low", "high", "p_corrected", "n"]].to_string())
