"""Prints the sha256 of what each family of operations computes: what trains here, and what language models need.

    python -m src.training.bits.operations

The last line is JSON, {operation: sha256}. Inputs are made of whole numbers, so that they are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from src.training.environment.determinism import configure_torch, prepare_environment

if TYPE_CHECKING:
    import numpy as np
    import torch

# What is read of an operation: tensors, arrays and numbers.
Result = Iterable[Any]
_OPERATIONS: dict[str, Callable[[Inputs], Result]] = {}
# As bert-tiny has them: rows, tokens, width, heads, width inside.
ROWS, TOKENS, WIDTH, HEADS, INNER = 4, 11, 128, 2, 512


class Inputs:
    """Numbers that are the same on every CPU."""

    def __init__(self) -> None:
        import numpy as np

        self._random = np.random.default_rng(7)

    def array(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Returns float32 in [-scale, scale): whole numbers times a power of two, where scale is one."""
        import numpy as np

        whole = self._random.integers(-(1 << 20), 1 << 20, size=shape)
        return whole.astype(np.float32) * np.float32(scale * 2.0**-20)

    def tensor(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Returns `array` as a tensor."""
        import torch

        return torch.from_numpy(self.array(*shape, scale=scale))

    def spread(self, count: int = 20_003) -> torch.Tensor:
        """Returns float32 above 0, from 2^-30 to 2^10."""
        import numpy as np
        import torch

        exponents = self._random.integers(-30, 10, size=count)
        return torch.from_numpy(np.ldexp(np.abs(self.array(count)) + 1, exponents).astype(np.float32))


def operation(compute: Callable[[Inputs], Result]) -> Callable[[Inputs], Result]:
    """Enters a function into the table under its name."""
    _OPERATIONS[compute.__name__] = compute
    return compute


def with_gradients(compute: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Result:
    """Returns a function's value and the gradients of its inputs."""
    leaves = [values.clone().requires_grad_() for values in inputs]
    value = compute(*leaves)
    # Any weighing of the outputs that is not the same for all of them.
    weighing = (value.detach() * 0 + 1).flatten().cumsum(0).view_as(value) / value.numel()
    (value * weighing).sum().backward()
    return [value, *(leaf.grad for leaf in leaves)]


# --- what trains here ---


@operation
def dropout_masks(_: Inputs) -> Result:
    from src.training.fused.dropout import DropoutMasks

    masks = DropoutMasks(seed=42, step=3, process=1)
    return [masks.draw((ROWS, TOKENS, WIDTH), probability) for probability in (0.1, 0.5)]


@operation
def fused_embedding(inputs: Inputs) -> Result:
    import torch

    from src.training.fused.layers import Embedding

    ids = torch.arange(ROWS * TOKENS).view(ROWS, TOKENS) % 17

    def embed(rows: Any, positions: Any, types: Any, scale: Any, shift: Any) -> Any:
        return Embedding.apply(rows, positions, types, (ids, 0, ids % 2, 1e-12), None, scale, shift)

    shapes = ((19, WIDTH), (TOKENS, WIDTH), (2, WIDTH), (WIDTH,), (WIDTH,))
    return with_gradients(embed, *(inputs.tensor(*shape) for shape in shapes))


def _attention(inputs: Inputs, *, asked: int) -> Result:
    import torch

    from src.training.fused.dropout import DropoutMasks
    from src.training.fused.layers import Attention, Shape

    masks = DropoutMasks(seed=1, step=0, process=0)
    drawn = (masks.draw((ROWS, HEADS, asked, TOKENS), 0.1), masks.draw((ROWS * asked, WIDTH), 0.1))
    padding = torch.arange(TOKENS)[None] >= torch.tensor([TOKENS, 7, 9, 2])[:, None]
    bias = padding[:, None, None].float() * torch.finfo(torch.float32).min
    matrices = [inputs.tensor(*shape, scale=0.125) for _ in range(4) for shape in ((WIDTH, WIDTH), (WIDTH,))]

    def attend(hidden: Any, *weights: Any) -> Any:
        return Attention.apply(hidden, asked, bias, drawn, Shape(heads=HEADS, eps=1e-12), *weights)

    norm = (inputs.tensor(WIDTH), inputs.tensor(WIDTH))
    return with_gradients(attend, inputs.tensor(ROWS, TOKENS, WIDTH), *matrices, *norm)


@operation
def fused_attention(inputs: Inputs) -> Result:
    return _attention(inputs, asked=TOKENS)


@operation
def fused_attention_of_the_first_token(inputs: Inputs) -> Result:
    return _attention(inputs, asked=1)


@operation
def fused_feed_forward(inputs: Inputs) -> Result:
    from src.training.fused.dropout import DropoutMasks
    from src.training.fused.layers import FeedForward, Shape

    mask = DropoutMasks(seed=1, step=0, process=0).draw((ROWS * TOKENS, WIDTH), 0.1)

    def apply(hidden: Any, *weights: Any) -> Any:
        return FeedForward.apply(hidden, mask, Shape(heads=HEADS, eps=1e-12), *weights)

    shapes = ((ROWS * TOKENS, WIDTH), (INNER, WIDTH), (INNER,), (WIDTH, INNER), (WIDTH,), (WIDTH,), (WIDTH,))
    return with_gradients(apply, *(inputs.tensor(*shape, scale=0.25) for shape in shapes))


@operation
def pooler_and_head(inputs: Inputs) -> Result:
    from torch.nn import functional

    def head(hidden: Any, pooler: Any, bias: Any, classifier: Any) -> Any:
        return functional.linear(functional.linear(hidden, pooler, bias).tanh(), classifier)

    shapes = ((64, WIDTH), (WIDTH, WIDTH), (WIDTH,), (3, WIDTH))
    return with_gradients(head, *(inputs.tensor(*shape, scale=0.25) for shape in shapes))


@operation
def losses_and_scores_of_classes(inputs: Inputs) -> Result:
    import numpy as np
    import torch

    from src.training.problems.classification.problem import Classification

    labels = np.arange(101) % 3
    for weights in (None, (0.5, 1.0, 2.75)):
        problem = Classification(class_names=("a", "b", "c"), class_weights=weights)
        logits = inputs.tensor(101, 3, scale=4.0)
        yield from with_gradients(lambda given, by=problem: by.loss_sum(given, torch.from_numpy(labels)), logits)
        scored: Any = problem.score(logits.numpy(), labels, split="test")
        yield from (scored.confidence, scored.predicted, *problem.merit(scored.metrics))
        yield json.dumps(scored.metrics.as_json())


@operation
def losses_and_scores_of_values(inputs: Inputs) -> Result:
    import torch

    from src.training.problems.regression.problem import Regression

    problem, labels = Regression(label_name="rating"), inputs.array(101, scale=2.0)
    logits = inputs.tensor(101, 1, scale=4.0)
    yield from with_gradients(lambda given: problem.loss_sum(given, torch.from_numpy(labels)), logits)
    scored: Any = problem.score(logits.numpy(), labels, split="test")
    yield from (scored.predicted, *problem.merit(scored.metrics), json.dumps(scored.metrics.as_json()))


@operation
def schedules(_: Inputs) -> Result:
    from src.training.optimizer.schedule import Schedule

    for kind in ("linear", "cosine", "constant"):
        schedule = Schedule(kind=kind, peak=1e-3, warmup_ratio=0.1, steps=97)
        yield from map(schedule, range(97))


@operation
def exact_square_roots(inputs: Inputs) -> Result:
    from src.training.optimizer.exact_sqrt import exact_sqrt

    return [exact_sqrt(inputs.spread(200_003))]


@operation
def deferred_adamw(inputs: Inputs) -> Result:
    import torch

    from src.training.optimizer.deferred_adamw import DeferredAdamW

    weight = torch.nn.Parameter(inputs.tensor(501, WIDTH, scale=0.0625))
    deferred = DeferredAdamW(weight, learning_rate=lambda step: 1e-3 / (step + 1), steps=9, weight_decay=0.01)
    for step in range(6):
        rows = torch.arange(step, 501, 2 + step)
        deferred.catch_up(rows, done=step)
        deferred.step(rows, inputs.tensor(len(rows), WIDTH, scale=0.03125), done=step)
    deferred.catch_up(torch.arange(501), done=6)
    return [weight, *deferred.state_dict().values()]


@operation
def optimizer_with_clipping(inputs: Inputs) -> Result:
    import numpy as np
    import torch

    from src.training.optimizer.optimizer import Optimizer
    from src.training.optimizer.schedule import Schedule

    model = torch.nn.Sequential(torch.nn.Embedding(101, WIDTH), torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 3))
    model.get_input_embeddings = lambda: model[0]  # type: ignore[assignment]
    model.get_output_embeddings = lambda: None  # type: ignore[assignment]
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(inputs.tensor(*weight.shape, scale=0.25))
    schedule = Schedule(kind="linear", peak=1e-2, warmup_ratio=0.1, steps=20)
    optimizer = Optimizer(model, schedule, weight_decay=0.01, max_grad_norm=0.5, max_token_ids=101)
    for step in range(20):
        ids = torch.arange(step, 101, 3)
        optimizer.catch_up(ids.numpy(), step=step)
        (model(ids) * inputs.tensor(len(ids), 3)).sum().backward()
        optimizer.publish_gradients(ids.numpy(), None)
        optimizer.reduce_gradients(ids.numpy().astype(np.int64))
        optimizer.step(step)
    optimizer.catch_up_all(done=20)
    return list(model.parameters())


@operation
def order_of_rows(_: Inputs) -> Result:
    import numpy as np

    from src.training.data.batches import epoch_batches, scoring_batches

    lengths = np.arange(1003) * 7919 % 61
    yield from epoch_batches(lengths, batch_size=16, seed=42, epoch=1)
    yield from scoring_batches(lengths, batch_size=64)


# --- what they are made of, and what language models need ---


@operation
def random_numbers(_: Inputs) -> Result:
    import numpy as np
    import torch

    torch.manual_seed(42)
    yield from (torch.rand(1003), torch.randn(1003), torch.randn(7), torch.randperm(1003), torch.empty(1003).normal_())
    yield from (torch.nn.init.trunc_normal_(torch.empty(1003), std=0.02), torch.empty(1003).bernoulli_(0.1))
    yield from (torch.nn.init.kaiming_uniform_(torch.empty(37, 61)), torch.nn.init.xavier_normal_(torch.empty(37, 61)))
    for generator in (np.random.default_rng(42), np.random.Generator(np.random.SFC64(42))):
        yield from (generator.random(1003), generator.standard_normal(1003), generator.permutation(1003))
        yield from (generator.integers(0, 1000, 1003), generator.choice(1003, 100, replace=False))


@operation
def products_of_torch(inputs: Inputs) -> Result:
    from torch.nn import functional

    for rows, inner, columns in ((64, 128, 512), (37, 128, 3), (5, 7, 11), (1, 512, 128), (130, 576, 48)):
        shapes = ((rows, inner), (columns, inner), (columns,))
        yield from with_gradients(functional.linear, *(inputs.tensor(*shape) for shape in shapes))
    batches = (inputs.tensor(6, 11, 64), inputs.tensor(6, 64, 11))
    yield from with_gradients(lambda left, right: left.bmm(right), *batches)
    yield from (inputs.tensor(37, 61).double() @ inputs.tensor(61, 5).double(), inputs.tensor(64, 9) @ inputs.tensor(9))
    yield (inputs.tensor(37, 64).bfloat16() @ inputs.tensor(64, 48).bfloat16()).float()


@operation
def products_of_numpy(inputs: Inputs) -> Result:
    import numpy as np

    for rows, inner, columns in ((64, 128, 512), (37, 128, 3), (5, 7, 11), (1, 512, 128), (130, 384, 48)):
        left, right = inputs.array(rows, inner), inputs.array(inner, columns)
        yield from (left @ right, np.ascontiguousarray(left.T).T @ right, left.astype(np.float64) @ right)
    yield from (inputs.array(6, 11, 64) @ inputs.array(6, 64, 11), inputs.array(2048) @ inputs.array(2048))


@operation
def softmax(inputs: Inputs) -> Result:
    for width in (2, 11, 128, 1000):
        yield from with_gradients(lambda scores: scores.softmax(-1), inputs.tensor(9, width, scale=16.0))


@operation
def log_softmax(inputs: Inputs) -> Result:
    for width in (2, 11, 1000):
        yield from with_gradients(lambda scores: scores.log_softmax(-1), inputs.tensor(9, width, scale=16.0))
        yield inputs.tensor(9, width, scale=16.0).logsumexp(-1)


@operation
def layer_norm(inputs: Inputs) -> Result:
    from torch.nn import functional

    for width in (16, 128, 384):
        shapes = ((37, width), (width,), (width,))
        values = (inputs.tensor(*shape) for shape in shapes)
        yield from with_gradients(lambda x, w, b: functional.layer_norm(x, x.shape[-1:], w, b, 1e-5), *values)


@operation
def rms_norm(inputs: Inputs) -> Result:
    import torch
    from torch.nn import functional

    def by_hand(values: Any, scale: Any) -> Any:
        # As transformers' decoders write it.
        return scale * (values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-6))

    for width in (64, 576):
        shapes = ((37, width), (width,))
        yield from with_gradients(by_hand, *(inputs.tensor(*shape) for shape in shapes))
        values = (inputs.tensor(*shape) for shape in shapes)
        yield from with_gradients(lambda x, w: functional.rms_norm(x, x.shape[-1:], w, 1e-6), *values)


@operation
def activations(inputs: Inputs) -> Result:
    import torch
    from torch.nn import functional

    for activate in (
        *(functional.gelu, functional.silu, functional.relu, functional.softplus, torch.tanh, torch.sigmoid),
        lambda values: functional.gelu(values, approximate="tanh"),
    ):
        yield from with_gradients(activate, inputs.tensor(10_007, scale=8.0))


@operation
def elementwise(inputs: Inputs) -> Result:
    import torch

    values, above_0 = inputs.tensor(20_003, scale=8.0), inputs.spread()
    for compute in (torch.exp, torch.sin, torch.cos, torch.erf, torch.expm1):
        yield compute(values)
    for compute in (torch.log, torch.log1p, torch.log2, torch.rsqrt, torch.reciprocal):
        yield compute(above_0)
    missed = torch.arange(2003, dtype=torch.float64)
    yield from (0.9**missed, 0.999**missed, values.pow(2), values.pow(3))
    yield from (values.double().exp(), above_0.double().log(), values.addcdiv(values, above_0))


@operation
def reductions(inputs: Inputs) -> Result:
    for shape in ((37, 131), (3, 20_003)):
        values = inputs.tensor(*shape, scale=3.0)
        for dim in (0, 1):
            yield from (values.sum(dim), values.mean(dim), values.var(dim), values.std(dim), values.cumsum(dim))
        yield from (values.sum(), (values * values).sum(), values.norm(), values.double().sum(), values.amax())
        yield values.new_zeros(5, shape[1]).index_add_(0, values[:, 0].long() % 5, values)


@operation
def rotary_positions(inputs: Inputs) -> Result:
    import torch

    frequencies = 1.0 / (10_000.0 ** (torch.arange(0, 64, 2).float() / 64))
    angles = torch.outer(torch.arange(67).float(), frequencies).repeat(1, 2)

    def rotate(values: Any) -> Any:
        first, second = values.chunk(2, -1)
        return values * angles.cos() + torch.cat((-second, first), -1) * angles.sin()

    return [angles.cos(), angles.sin(), *with_gradients(rotate, inputs.tensor(2, 3, 67, 64))]


@operation
def swiglu(inputs: Inputs) -> Result:
    from torch.nn import functional

    def feed(hidden: Any, gate: Any, up: Any, down: Any) -> Any:
        return functional.linear(functional.silu(functional.linear(hidden, gate)) * functional.linear(hidden, up), down)

    shapes = ((21, 64), (171, 64), (171, 64), (64, 171))
    return with_gradients(feed, *(inputs.tensor(*shape, scale=0.25) for shape in shapes))


@operation
def scaled_dot_product_attention(inputs: Inputs) -> Result:
    import torch
    from torch.nn import functional

    def heads(tokens: int) -> list[torch.Tensor]:
        return [inputs.tensor(2, 3, tokens, 64) for _ in range(3)]

    attend = functional.scaled_dot_product_attention
    yield from with_gradients(lambda q, k, v: attend(q, k, v, is_causal=True), *heads(67))
    padding = torch.arange(13)[None, None, None] < torch.tensor([13, 5])[:, None, None, None]
    yield from with_gradients(lambda q, k, v: attend(q, k, v, attn_mask=padding), *heads(13))


@operation
def low_rank_adapters(inputs: Inputs) -> Result:
    from torch.nn import functional

    def adapted(hidden: Any, frozen: Any, down: Any, up: Any) -> Any:
        return functional.linear(hidden, frozen) + 2.0 * functional.linear(functional.linear(hidden, down), up)

    shapes = ((66, 192), (576, 192), (8, 192), (576, 8))
    return with_gradients(adapted, *(inputs.tensor(*shape) for shape in shapes))


@operation
def fused_linear_layers(inputs: Inputs) -> Result:
    from src.training.fused.linear import Float32Weight, Linear, LoraLinear, Projection

    yield from with_gradients(Linear.apply, inputs.tensor(3, 22, 192), inputs.tensor(576, 192), inputs.tensor(576))
    weight, bias = inputs.tensor(576, 192), inputs.tensor(576)

    def adapted(hidden: Any, down: Any, up: Any) -> Any:
        part = Projection(weight=Float32Weight(weight), bias=bias, trained=(down, up), scale=2.0)
        return LoraLinear.apply(hidden, part, down, up)

    yield from with_gradients(adapted, *(inputs.tensor(*shape) for shape in ((3, 22, 192), (8, 192), (576, 8))))


@operation
def attention_of_following_tokens(inputs: Inputs) -> Result:
    import numpy as np

    from src.training.fused.attention import Layout
    from src.training.fused.layer_cache import LayerCache

    def parts(tokens: int) -> list[Any]:
        # Three heads of queries for each of keys.
        return [inputs.array(3, tokens * group, 64) for group in (3, 1, 1)]

    cache = LayerCache(Layout(prefix=28, lengths=(10, 12)))
    yield cache.attend(*parts(50))
    yield cache.following(np.array([11, 13])).attend(*parts(2))
    cache.select([1])
    yield cache.following(np.array([14])).attend(*parts(1))


@operation
def fused_decoder_layer(inputs: Inputs) -> Result:
    import torch

    from src.training.fused.attention import Layout
    from src.training.fused.decoder import DecoderLayer, LayerWeights, Norm, Places, Rotation
    from src.training.fused.linear import Float32Weight, Projection

    # Three heads of queries for each of keys; a row longer than a block of queries.
    layout, width, keys, inner, size = Layout(prefix=5, lengths=(140, 3)), 192, 64, 512, 32
    cos, sin = inputs.tensor(148, size), inputs.tensor(148, size)
    frozen = [
        inputs.tensor(*shape, scale=0.125)
        for shape in (
            *((width, width), (keys, width), (keys, width), (width, width)),
            *((inner, width), (inner, width), (width, inner)),
        )
    ]
    norms = [Norm(scale=inputs.tensor(width), eps=1e-5) for _ in range(2)]
    places = Places(
        attention=layout,
        query_turn=Rotation.of(cos, sin, heads=width // size, scale=0.25),
        key_turn=Rotation.of(cos, sin, heads=keys // size),
        kept=torch.tensor([7, 147]),
    )

    def layer(hidden: Any, *adapters: Any) -> Any:
        pairs = zip(adapters[::2], adapters[1::2], strict=True)
        query, key, value, out, gate, up, down = (
            Projection(weight=Float32Weight(weight), bias=None, trained=pair, scale=2.0)
            for weight, pair in zip(frozen, pairs, strict=True)
        )
        weights = LayerWeights(
            before_attention=norms[0], before_feed_forward=norms[1], query=query, key=key, value=value, out=out,
            gate=gate, up=up, down=down, size=size,
        )  # fmt: skip
        first = DecoderLayer.apply(hidden, weights, replace(places, kept=None), *adapters)
        return DecoderLayer.apply(first, weights, places, *adapters)

    adapters = [
        inputs.tensor(*shape, scale=0.125)
        for weight in frozen
        for shape in ((8, weight.shape[1]), (weight.shape[0], 8))
    ]
    return with_gradients(layer, inputs.tensor(148, width), *adapters)


@operation
def attention_behind_a_shared_prefix(inputs: Inputs) -> Result:
    import torch
    from torch.nn import functional

    seen = torch.ones(7, 12, dtype=torch.bool).tril(5) & (torch.arange(12) < torch.tensor([12, 9])[:, None, None])

    def attend(query: Any, prefix: Any, rest: Any) -> Any:
        # Three heads of keys and values for nine of queries; the prefix' are those of every row.
        keys = torch.cat([prefix.expand(2, -1, -1, -1), rest], 2).repeat_interleave(3, 1)
        return functional.scaled_dot_product_attention(query, keys, keys, attn_mask=seen[:, None])

    shapes = ((2, 9, 7, 64), (1, 3, 5, 64), (2, 3, 7, 64))
    return with_gradients(attend, *(inputs.tensor(*shape) for shape in shapes))


@operation
def losses_of_tokens(inputs: Inputs) -> Result:
    import torch
    from torch.nn import functional

    ids = torch.arange(40) * 7 % 311
    places = torch.arange(0, 40, 3)

    def loss(embedding: Any) -> Any:
        # The head is tied to the embedding, and read only where there is a loss.
        logits = functional.linear(functional.embedding(ids, embedding)[places], embedding)
        return functional.cross_entropy(logits, ids[places], reduction="sum")

    return with_gradients(loss, inputs.tensor(311, 64))


@operation
def fused_optimizers_of_torch(inputs: Inputs) -> Result:
    import torch

    for kind in (torch.optim.AdamW, torch.optim.SGD):
        weight = torch.nn.Parameter(inputs.tensor(20_003))
        optimizer = kind([weight], lr=1e-3, weight_decay=0.01, fused=True)
        for _ in range(3):
            weight.grad = inputs.tensor(20_003)
            optimizer.step()
        yield weight


@operation
def numpy_functions(inputs: Inputs) -> Result:
    """Those whose bits AVX-512 changes unless numpy's dispatch is pinned are the first."""
    import numpy as np

    above_0, values = inputs.spread().numpy(), inputs.array(20_003, scale=8.0)
    for wide in (above_0, above_0.astype(np.float64)):
        yield from (np.power(wide, np.float32(0.3)), np.log1p(wide), np.log(wide), np.log2(wide), np.log10(wide))
        yield from (np.cbrt(wide), np.sqrt(wide), np.arctan(wide), np.arctan2(wide, wide[::-1]))
    for wide in (values, values.astype(np.float64)):
        yield from (np.exp(wide), np.expm1(wide), np.exp2(wide), np.tan(wide), np.sin(wide), np.cos(wide))
        yield from (np.sinh(wide), np.cosh(wide), np.tanh(wide), np.arcsin(wide / np.float32(8.0)))
    small = inputs.array(1003).astype(np.float64)
    yield from (small.mean(), small.std(ddof=1), np.quantile(small, (0.05, 0.5)), np.corrcoef(small, small[::-1]))
    yield from (np.cumsum(small), np.argsort(small, kind="stable"), np.linspace(0, 1, 97), small.sum(), np.diff(small))


def digest(results: Result) -> str:
    """Returns the sha256 over the bytes of all results."""
    import numpy as np
    import torch

    found = hashlib.sha256()
    for result in results:
        if isinstance(result, str):
            found.update(result.encode())
            continue
        values = result.detach().numpy() if isinstance(result, torch.Tensor) else np.asarray(result)
        found.update(f"{values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def main(names: list[str]) -> int:
    """Entry point; computes the operations that are named, by default all."""
    prepare_environment("portable")
    configure_torch("portable")
    found = {name: digest(_OPERATIONS[name](Inputs())) for name in names or _OPERATIONS}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
