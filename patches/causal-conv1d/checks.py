"""Checks the kernels of causal-conv1d against float64 references on fresh random inputs.

The kernels compute in float32 and round once, so `plain` does too. Gradients of weight and bias are
sums over batch and time, in an order that changes: their floor is upstream's tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FORWARD = [(2, 64, 7), (1, 40, 1), (2, 96, 129), (1, 32, 2056)]
"""Batch, channels, length: unaligned, one step, past one chunk, whole vectors over several."""
LAST = [(2, 64, 7), (1, 72, 1), (2, 200, 130), (1, 64, 513)]
"""Channels in multiples of 8, as that layout wants, and not of its tile of 64."""
SUMS = 1e-3
"""Upstream's tolerance of gradients that are sums (tests/test_causal_conv1d.py)."""


def reference(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    exact: bool,
    silu: bool = False,
    before: Any = None,
    sequences: Any = None,
) -> Any:
    """Convolve each channel with its own weights over the present and earlier steps.

    `x` is (batch, channels, length), `weight` (channels, width), `before` the width - 1 steps in
    front. `sequences` (batch, length) numbers packed sequences: none sees another.
    """
    import torch

    to = torch.float64 if exact else torch.float32
    kind, (batch, channels, length), width = x.dtype, x.shape, weight.shape[1]
    if before is None:
        before = x.new_zeros(batch, channels, width - 1)
    whole, out = torch.cat([before, x], dim=-1).to(to), 0
    for back in range(width):
        part = whole[..., width - 1 - back : width - 1 - back + length]
        if sequences is not None and back:
            earlier = torch.full_like(sequences, -1)
            earlier[:, back:] = sequences[:, :-back] if back < length else earlier[:, back:]
            part = part.masked_fill((earlier != sequences)[:, None], 0.0)
        out = out + part * weight[:, width - 1 - back, None].to(to)
    if bias is not None:
        out = out + bias[:, None].to(to)
    out = torch.nn.functional.silu(out) if silu else out
    return out if exact else out.to(kind)


def cases(kit: Any, shapes: list[tuple[int, int, int]]) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield name, x, weight and bias of every type and width; x is channels first."""
    torch = kit.torch
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for number, shape in enumerate(shapes):
            width, own = 2 + number % 3, dtype if number == 1 else torch.float32
            x = kit.random(*shape, dtype=dtype)
            weight = kit.random(shape[1], width, dtype=own).contiguous()
            bias = kit.random(1, shape[1], dtype=own)[0].contiguous() if number != 2 else None
            name = f"{str(dtype).removeprefix('torch.')} {shape} width {width}"
            yield name, x, weight, bias


def channels_last(x: Any) -> Any:
    """Return the same values with the channels of one step side by side."""
    batch, channels, length = x.shape
    made = x.new_empty(batch, length, channels)  # contiguous() leaves strides of 1 to one step
    return made.copy_(x.transpose(1, 2)).transpose(1, 2)


def held(kit: Any, name: str, x: Any, weight: Any, bias: Any, **more: Any) -> None:
    """Compare both activations of one forward call."""
    from causal_conv1d import causal_conv1d_fn

    before, sequences = more.get("initial_states"), more.get("seq_idx")
    for silu in (False, True):
        given = {"silu": silu, "before": before, "sequences": sequences}
        exact = reference(x, weight, bias, exact=True, **given)
        plain = reference(x, weight, bias, exact=False, **given)
        kit.poison()
        out = causal_conv1d_fn(x, weight, bias, activation="silu" if silu else None, **more)
        out = out[0] if isinstance(out, tuple) else out
        kit.compare(f"{name}{' silu' * silu}", out, exact, plain)


def forward(kit: Any) -> None:
    """Check channels first: lengths that fill no chunk, and whole vectors."""
    for case in cases(kit, FORWARD):
        held(kit, *case)


def forward_channels_last(kit: Any) -> None:
    """Check channels last, which is another kernel."""
    for name, x, *rest in cases(kit, LAST):
        held(kit, f"{name} last", channels_last(x), *rest)


def states(kit: Any) -> None:
    """Check steps in front of the first, and the last steps, handed on to the next call."""
    from causal_conv1d import causal_conv1d_fn

    for name, x, weight, bias in cases(kit, LAST):
        x, width = channels_last(x), weight.shape[1]  # noqa: PLW2901
        before = channels_last(kit.random(*x.shape[:2], width - 1, dtype=x.dtype))
        more = {"initial_states": before, "return_final_states": True}
        held(kit, f"{name} states", x, weight, bias, **more)
        kit.poison()
        _, after = causal_conv1d_fn(x, weight, bias, **more)
        kept = kit.torch.cat([before, x], dim=-1)[..., x.shape[2] :]
        kit.compare(f"{name} final states", after, kept.double(), kept)


def packed(kit: Any) -> None:
    """Check sequences packed into one row: none sees the end of the one before."""
    torch = kit.torch
    for name, x, *rest in cases(kit, LAST):
        ends = torch.rand(x.shape[0], x.shape[2], device=kit.device, generator=kit.generator) < 0.2
        numbers = ends.cumsum(dim=-1).to(torch.int32)
        held(kit, f"{name} packed", channels_last(x), *rest, seq_idx=numbers)


def step(kit: Any) -> None:
    """Check decoding: one or more steps beside a state that is moved on in place."""
    from causal_conv1d import causal_conv1d_update

    for name, x, weight, bias in cases(kit, [(3, 64, 1), (2, 40, 1), (3, 96, 3), (2, 72, 2)]):
        width, length = weight.shape[1], x.shape[2]
        for room in (width - 1, width + 4):
            state = kit.random(*x.shape[:2], room, dtype=x.dtype)
            before, whole = state[..., 1 - width :].clone(), kit.torch.cat([state, x], dim=-1)
            given = {"before": before, "silu": True}
            exact = reference(x, weight, bias, exact=True, **given)
            plain = reference(x, weight, bias, exact=False, **given)
            kit.poison()
            out = causal_conv1d_update(x, state, weight, bias, activation="silu")
            kit.compare(f"{name} step, state of {room}", out, exact, plain)
            kept = whole[..., length:]
            kit.compare(f"{name} state of {room} afterwards", state, kept.double(), kept)


def step_in_a_ring(kit: Any) -> None:
    """Check decoding with states as rings, chosen by index; the others stay as they are."""
    from causal_conv1d import causal_conv1d_update

    torch = kit.torch
    for name, x, weight, bias in cases(kit, [(3, 64, 1), (3, 40, 1), (3, 96, 2), (3, 72, 1)]):
        (_, channels, length), width = x.shape, weight.shape[1]
        room = width + 3
        pool = kit.random(7, channels, room, dtype=x.dtype)
        rows = torch.tensor([5, 0, 3], device=kit.device, dtype=torch.int32)
        done = torch.tensor([0, 4, room * 3 - 1], device=kit.device, dtype=torch.int32)
        places = torch.arange(1 - width, length, device=kit.device) + done[:, None].long()
        places = (places % room)[:, None].expand(-1, channels, -1)
        before = pool[rows.long()].gather(2, places[..., : width - 1])
        want = pool.clone()
        want[rows.long()] = pool[rows.long()].scatter(2, places[..., width - 1 :], x)
        exact = reference(x, weight, bias, exact=True, before=before)
        plain = reference(x, weight, bias, exact=False, before=before)
        kit.poison()
        out = causal_conv1d_update(
            x, pool, weight, bias, cache_seqlens=done, conv_state_indices=rows
        )
        kit.compare(f"{name} step in a ring", out, exact, plain)
        kit.compare(f"{name} rings afterwards", pool, want.double(), want)


def _gradients(given: list[Any], grad: Any, exact: bool, **how: Any) -> list[Any]:
    """Gradients of the formula, in float64 or float32."""
    to = grad.double().dtype if exact else grad.float().dtype
    leaves = [each.detach().to(to).requires_grad_() for each in given]
    reference(*leaves, exact=exact, silu=True, **how).backward(grad.to(to))
    return [leaf.grad for leaf in leaves]


def _backward(kit: Any, name: str, given: list[Any], **more: Any) -> None:
    from causal_conv1d import causal_conv1d_fn

    x = given[0]
    grad = kit.random(*x.shape, dtype=x.dtype)
    grad = channels_last(grad) if x.stride(1) == 1 else grad.contiguous()
    how = {"sequences": more.get("seq_idx")}
    exact, plain = (_gradients(given, grad, each, **how) for each in (True, False))
    leaves = [each.detach().requires_grad_() for each in given]
    out = causal_conv1d_fn(*leaves, activation="silu", **more)
    kit.poison()
    out.backward(grad)
    for what, leaf, one, other in zip(("x", "weight", "bias"), leaves, exact, plain, strict=False):
        floor = 1e-5 if what == "x" else SUMS * float(one.abs().max() + 1)
        kit.compare(f"{name} d{what}", leaf.grad, one, other.to(leaf.dtype), factor=3, floor=floor)


def backward(kit: Any) -> None:
    """Check gradients of x, weight and bias, channels first."""
    for name, x, weight, bias in cases(kit, FORWARD):
        _backward(kit, name, [x, weight, *([] if bias is None else [bias])])


def backward_channels_last(kit: Any) -> None:
    """Check gradients with channels last, also of packed sequences."""
    torch = kit.torch
    for name, x, weight, bias in cases(kit, LAST):
        given = [channels_last(x), weight, *([] if bias is None else [bias])]
        _backward(kit, f"{name} last", given)
        ends = torch.rand(x.shape[0], x.shape[2], device=kit.device, generator=kit.generator) < 0.2
        numbers = ends.cumsum(dim=-1).to(torch.int32)
        _backward(kit, f"{name} packed", given, seq_idx=numbers)


def refusals(kit: Any) -> None:
    """Check that a width which no kernel has is refused in words, not answered."""
    from causal_conv1d import causal_conv1d_fn

    x = kit.random(1, 64, 16, dtype=kit.torch.bfloat16)
    for width in (1, 5):
        weight = kit.random(64, width, dtype=kit.torch.float32).contiguous()
        words = "only supports width between 2 and 4"
        kit.refused(f"width {width}", lambda w=weight: causal_conv1d_fn(x, w), words)


CHECKS = {
    "forward": forward,
    "forward-channels-last": forward_channels_last,
    "states": states,
    "packed": packed,
    "step": step,
    "step-in-a-ring": step_in_a_ring,
    "backward": backward,
    "backward-channels-last": backward_channels_last,
    "refusals": refusals,
}
