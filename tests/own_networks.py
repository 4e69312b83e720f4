"""Networks of the kinds that people have, each of which once failed after its training, or was measured wrongly."""

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, int, int]


class Network(nn.Module):
    """A flat input, one hidden layer of 16 units, a head; a subclass says what lies between."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.first, self.head = nn.Linear(channels * height * width, 16), nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.hidden(self.first(images.flatten(1))))

    def hidden(self, x: Tensor) -> Tensor:
        return x.relu()


class Tied(Network):
    """One parameter under two names."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.second, self.third, self.relu, self.tanh = nn.Linear(16, 16), nn.Linear(16, 16), nn.ReLU(), nn.Tanh()
        self.third.weight = self.second.weight

    def hidden(self, x: Tensor) -> Tensor:
        return self.tanh(self.third(self.relu(self.second(x))))


class Twice(Network):
    """One module under two names."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.all = nn.Sequential(nn.Flatten(), self.first, nn.ReLU(), self.head)

    def forward(self, images: Tensor) -> Tensor:
        return self.all(images)


class Reused(Network):
    """One ReLU used twice, as in torchvision's ResNets."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.second, self.relu = nn.Linear(16, 16), nn.ReLU(inplace=True)

    def hidden(self, x: Tensor) -> Tensor:
        out = self.second(self.relu(x))
        out += x
        return self.relu(out)


class Functional(Network):
    """Non-linearities as functions, in all spellings."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.second = nn.Linear(16, 16)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(functional.gelu(self.second(functional.relu(x))).relu_()).clamp(min=0)


class Rare(Network):
    """Non-linearities as modules that few networks have, one of them with weights."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.between = nn.Sequential(nn.PReLU(), nn.ReLU6(), nn.Softplus(), nn.Linear(16, 32), nn.GLU(), nn.CELU())

    def hidden(self, x: Tensor) -> Tensor:
        return self.between(x)


class Attention(nn.Module):
    """A small vision transformer; the fast attention has no second derivative."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__()
        self.patch, self.qkv, self.mlp = nn.Conv2d(image_shape[0], 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        t = self.patch(images).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(t).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        t = t + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((t + functional.gelu(self.mlp(t))).mean(1))


class Values(Network):
    """Looks at values in the constructor and in the forward pass: the meta device has none."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.dropout, self.relu = nn.Dropout(torch.linspace(0, 0.1, 3)[1].item()), nn.ReLU()

    def hidden(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise RuntimeError("NaN")
        return self.dropout(self.relu(x))


class Frozen(Tied):
    """A first layer that is not trained, and a layer that is not used."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.first.requires_grad_(False)
        self.unused = nn.Linear(7, 7)


class Untracked(Network):
    """Batch norm without running statistics."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.norm, self.relu = nn.BatchNorm1d(16, track_running_stats=False), nn.ReLU()

    def hidden(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(x))


class Random(Network):
    """Dropout that eval mode does not stop."""

    def hidden(self, x: Tensor) -> Tensor:
        return functional.dropout(functional.relu(x), 0.5)


class Zeros(Network):
    """Tensors of float32 in the forward pass."""

    def __init__(self, image_shape: Shape, classes: int) -> None:
        super().__init__(image_shape, classes)
        self.gru, self.relu = nn.GRU(16, 16, batch_first=True), nn.ReLU()

    def hidden(self, x: Tensor) -> Tensor:
        return self.relu(self.gru(x[:, None], torch.zeros(1, len(x), 16))[0][:, 0])


class Pair(Network):
    """Logits and features."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        features = self.first(images.flatten(1)).relu()
        return self.head(features), features


class Graphless(Network):
    """No gradient reaches a weight."""

    def hidden(self, x: Tensor) -> Tensor:
        self.head.requires_grad_(False)
        return x.detach().relu()


class Curved(Network):
    """An operation without a second derivative."""

    def hidden(self, x: Tensor) -> Tensor:
        return _Once.apply(x).relu()


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].cos()


class Ends(Network):
    """Ends the process, as if all were well."""

    def hidden(self, x: Tensor) -> Tensor:
        raise SystemExit(0)


class Raises(Network):
    """A fault of the user's own."""

    def hidden(self, x: Tensor) -> Tensor:
        raise KeyError("mine")
