#!/usr/bin/env python3
"""What PyTorch reaches where oasis is measured: whole steps of 33 frames from 320x180 to 1280x720, on one GPU.

    python3 bench/pytorch.py [--seconds N] [--only paper,plain,seedvr2] [--tiny]

Two networks with random weights, in bf16, written for PyTorch alone (torch.compile and channels last where they help):

paper     The paper's network: frames unshuffled by 4x8x8 and projected to latents, the transformer of Wan2.1-1.3B (30
          blocks of 1536, 12 heads of 128, 8960 wide inside; time and prompt folded into constants, as in our converted
          model) with 4 global, 4 own-frame and 4 window (3x5x5) heads, or 1, 3 and 8 ("few"), then our conditional tiny decoder of the widths
          128, 64, 48, 24 or Wan2.1's video decoder (base width 96; a latent at a time, with its published memory).
plain     The same as PyTorch runs it line by line: only attention is fused.
seedvr2   A network of SeedVR2-3B's shape: its video autoencoder (causal 3D convolutions, 128, 256, 512, 512 channels, two
          residuals a level in the encoder and three in the decoder, 8 in space, 4 in time, 16 latent channels; slices of 4
          frames, as published) around its transformer (32 blocks of 2560, 20 heads of 128, SwiGLU of 6912, text of 58
          rows in every window, own weights for text in the first 10 blocks; windows of 3x15x27 tokens at this size, in
          every other block shifted by half of theirs).
          Sources: the configuration configs_3b/main.yaml and the autoencoder's s8_c16_t4_inflation_sd3.yaml of the
          published code, and the paper (SeedVR2, ICLR 2026).

A step begins with small frames in pinned host memory and ends with large ones there, float; the median of three after a
first that compiles and chooses kernels.  For attention and causal convolution, whichever of PyTorch's ways is fastest at these
sizes is taken.  Prints NAME TYPE VALUE UNIT DETAIL, one figure a line.
"""
import argparse
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

BF16 = torch.bfloat16


class Shape:
    """Sizes of everything; --tiny makes them small, to see that the script works."""

    def __init__(self, tiny):
        self.frames, self.scale = 33, 4
        self.low = (32, 48) if tiny else (180, 320)
        self.high = (self.low[0] * self.scale, self.low[1] * self.scale)
        self.latents = (self.frames - 1) // 4 + 1
        self.grid = (self.latents, -(-self.high[0] // 16), -(-self.high[1] // 16))  # of tokens
        self.dim, self.ffn, self.heads, self.layers = (96, 128, 12, 2) if tiny else (1536, 8960, 12, 30)
        self.tiny_widths = (16, 16, 8, 8) if tiny else (128, 64, 48, 24)
        self.wan_base = 8 if tiny else 96
        self.big_dim, self.big_heads, self.big_layers, self.big_own = (64, 4, 3, 1) if tiny else (2560, 20, 32, 10)
        self.text, self.text_width = (5, 32) if tiny else (58, 5120)
        self.big_vae = (8, 16, 32, 32) if tiny else (128, 256, 512, 512)
        self.groups = 4 if tiny else 32


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HAS_COMPILE = DEVICE.type == "cuda"


def compiled(f, **how):
    return torch.compile(f, **how) if HAS_COMPILE else f


def synchronize():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(f, repeats=3):
    """The median time of f, and what it returned last."""
    times = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        f()
        synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def figure(name, value, unit, detail):
    print(f"{name} bf16 {value:.6g} {unit} {detail}", flush=True)


def linear(out, into, bias=True):
    return nn.Linear(into, out, bias=bias, device=DEVICE, dtype=BF16)


def parameter(*size):
    return nn.Parameter(torch.randn(*size, device=DEVICE, dtype=BF16) * 0.02, requires_grad=False)


# ---- the fastest ways ------------------------------------------------------------------------------------------------


def choose_attention(s):
    """Takes the faster of flash attention and cuDNN's for heads of 128; others take what fits."""
    if DEVICE.type != "cuda":
        return
    n = s.grid[0] * s.grid[1] * s.grid[2]
    q = torch.randn(1, 4, n, 128, device=DEVICE, dtype=BF16)
    best = None
    for name in ("flash", "cudnn"):
        torch.backends.cuda.enable_flash_sdp(name == "flash")
        torch.backends.cuda.enable_cudnn_sdp(name == "cudnn")
        try:
            F.scaled_dot_product_attention(q, q, q)
            t = seconds_of(lambda: F.scaled_dot_product_attention(q, q, q), 5)
        except RuntimeError:
            continue
        figure("torch_attention_ms", 1e3 * t, "ms", f"4 global heads, {n} tokens, {name}")
        if best is None or t < best[0]:
            best = (t, name)
    torch.backends.cuda.enable_flash_sdp(best is None or best[1] == "flash")
    torch.backends.cuda.enable_cudnn_sdp(best is not None and best[1] == "cudnn")


CONV_BY_FRAMES = False


def conv_time(x, weight, bias, stride):
    """A 3D convolution without padding in time, over x [1, C, T, H, W] of channels last."""
    kt, side = weight.shape[2], weight.shape[3] // 2
    pad = 0 if stride[1] == 2 else side
    if not CONV_BY_FRAMES or stride[0] != 1 or kt == 1:
        return F.conv3d(x, weight, bias, stride=stride, padding=(0, pad, pad))
    frames = x[0].transpose(0, 1)  # [T, C, H, W], as it lies
    t = frames.shape[0] - kt + 1
    y = None
    for k in range(kt):
        part = F.conv2d(frames[k:k + t], weight[:, :, k], bias if k == 0 else None, stride=stride[1:], padding=pad)
        y = part if y is None else y.add_(part)
    return y.transpose(0, 1)[None]


def choose_convolution(s):
    """A 3D convolution as one call, or as three over frames that are added."""
    global CONV_BY_FRAMES
    if DEVICE.type != "cuda":
        return
    c = 128
    x = torch.randn(1, c, 6, s.high[0], s.high[1], device=DEVICE, dtype=BF16)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    w = parameter(c, c, 3, 3, 3).data.contiguous(memory_format=torch.channels_last_3d)
    times = []
    for CONV_BY_FRAMES in (False, True):
        conv_time(x, w, None, (1, 1, 1))
        times.append(seconds_of(lambda: conv_time(x, w, None, (1, 1, 1))))
        rate = 2 * 27 * c * c * 4 * s.high[0] * s.high[1] / times[-1] * 1e-12
        way = "three of 3x3 added" if CONV_BY_FRAMES else "3x3x3"
        figure("torch_convolution_tflops", rate, "TFLOP/s", f"{c} channels, {s.high[1]}x{s.high[0]}, {way}")
    CONV_BY_FRAMES = times[1] < times[0]


# ---- pictures --------------------------------------------------------------------------------------------------------


class Pictures:
    """Small frames on the host, and large ones back to it."""

    def __init__(self, s):
        pinned = DEVICE.type == "cuda"
        self.s = s
        self.low = torch.rand(s.frames, 3, *s.low, pin_memory=pinned)
        self.high = torch.empty(s.frames, 3, *s.high, pin_memory=pinned)

    def enlarged(self):
        x = self.low.to(DEVICE, non_blocking=True)
        return F.interpolate(x, size=self.s.high, mode="bicubic", align_corners=False) * 2 - 1

    def finish(self, y):
        self.high.copy_(y.float().add_(1).mul_(0.5).clamp_(0, 1), non_blocking=True)


# ---- the paper's network ---------------------------------------------------------------------------------------------


def rotate(x, cos, sin):
    """x [N, heads, width] in pairs."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def angles(grid, pairs):
    """Cosines and sines [N, 1, pairs] of positions in a grid: time takes what space leaves."""
    space = pairs // 3
    sizes = (pairs - 2 * space, space, space)
    at = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    parts = [p.flatten()[:, None] * 10000.0 ** (-torch.arange(n) / n) for p, n in zip(at, sizes)]
    a = torch.cat(parts, 1)[:, None].to(DEVICE)
    return a.cos(), a.sin()


def window_mask(grid, reach=(1, 2, 2), block=128):
    """The mask of a 3x5x5 window for flex_attention, from the blocks of keys that a block of queries touches."""
    from torch.nn.attention.flex_attention import BlockMask
    t, h, w = grid
    n = t * h * w
    index = torch.arange(n, device=DEVICE)
    place = torch.stack((index // (h * w), index // w % h, index % w), 1)
    blocks = -(-n // block)
    touched = torch.zeros(blocks, blocks, dtype=torch.bool, device=DEVICE)
    for i in range(blocks):
        away = (place[i * block:(i + 1) * block, None] - place[None]).abs()
        seen = (away <= torch.tensor(reach, device=DEVICE)).all(-1).any(0)
        touched[i] = F.pad(seen, (0, blocks * block - n)).view(blocks, block).any(1)

    def sees(batch, head, q, k):
        near = (q // (h * w) - k // (h * w)).abs() <= reach[0]
        near = near & ((q // w % h - k // w % h).abs() <= reach[1])
        return near & ((q % w - k % w).abs() <= reach[2])

    count = touched.sum(1).to(torch.int32)[None, None]
    order = touched.to(torch.int8).argsort(dim=1, descending=True, stable=True).to(torch.int32)[None, None]
    return BlockMask.from_kv_blocks(count, order.contiguous(), BLOCK_SIZE=block, mask_mod=sees, seq_lengths=(n, n))


def attend_window_plainly(q, k, v, grid, reach=(1, 2, 2)):
    """[1, heads, N, width]: one shift of keys after the other; without flex_attention."""
    t, h, w = grid
    q, k, v = (x.unflatten(2, grid) for x in (q, k, v))
    pad = (0, 0, reach[2], reach[2], reach[1], reach[1], reach[0], reach[0])
    ones = F.pad(torch.ones(t, h, w, 1, device=q.device), pad)
    k, v = F.pad(k, pad), F.pad(v, pad)
    scores, values = [], []
    for a in range(2 * reach[0] + 1):
        for b in range(2 * reach[1] + 1):
            for c in range(2 * reach[2] + 1):
                at = (slice(a, a + t), slice(b, b + h), slice(c, c + w))
                score = (q * k[(slice(None), slice(None)) + at]).sum(-1).float() / math.sqrt(q.shape[-1])
                scores.append(score.masked_fill(ones[at][..., 0] == 0, -math.inf))
                values.append(v[(slice(None), slice(None)) + at])
    p = torch.stack(scores, -1).softmax(-1).to(q.dtype)
    return sum(p[..., i, None] * x for i, x in enumerate(values)).flatten(2, 4)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        d = s.dim
        self.modulation = parameter(6, d)
        self.qkv, self.o = linear(3 * d, d), linear(d, d)
        self.norm_q, self.norm_k, self.text = parameter(d), parameter(d), parameter(d)
        self.up, self.down = linear(s.ffn, d), linear(d, s.ffn)

    def weights(self):
        """As plain tensors, so that all blocks share one compiled function."""
        layers = [y for x in (self.qkv, self.o, self.up, self.down) for y in (x.weight, x.bias)]
        return [self.modulation, self.norm_q, self.norm_k, self.text] + layers


def route(q, k, v, grid, counts, mask, flex):
    """q, k, v [N, heads, width]: so many of the heads global, in their own frame, in a window."""
    heads = list(zip(*(x.transpose(0, 1).split(counts) for x in (q, k, v))))
    everywhere = F.scaled_dot_product_attention(*(x[None] for x in heads[0]))[0]
    frames = [x.unflatten(1, (grid[0], -1)).transpose(0, 1) for x in heads[1]]
    own = F.scaled_dot_product_attention(*frames).transpose(0, 1).flatten(1, 2)
    inside = [x[None] for x in heads[2]]
    near = flex(*inside, block_mask=mask)[0] if flex else attend_window_plainly(*inside, grid)[0]
    return torch.cat((everywhere, own, near)).transpose(0, 1).flatten(1)


def run_block(weights, x, cos, sin, grid, counts, mask, flex):
    m, norm_q, norm_k, text, qkv, qkv_bias, o, o_bias, up, up_bias, down, down_bias = weights
    d = x.shape[-1]
    u = F.layer_norm(x, (d,), eps=1e-6) * (1 + m[1]) + m[0]
    q, k, v = F.linear(u, qkv, qkv_bias).chunk(3, -1)
    q, k = F.rms_norm(q, (d,), norm_q, 1e-6), F.rms_norm(k, (d,), norm_k, 1e-6)
    q, k, v = (y.unflatten(-1, (sum(counts), -1)) for y in (q, k, v))
    seen = route(rotate(q, cos, sin), rotate(k, cos, sin), v, grid, counts, mask, flex)
    x = x + F.linear(seen, o, o_bias) * m[2] + text
    u = F.layer_norm(x, (d,), eps=1e-6) * (1 + m[4]) + m[3]
    return x + F.linear(F.gelu(F.linear(u, up, up_bias), approximate="tanh"), down, down_bias) * m[5]


class Transformer(nn.Module):
    def __init__(self, s, counts, plain=False):
        super().__init__()
        self.s, self.counts = s, counts
        self.project, self.patch = linear(16, 4 * 8 * 8 * 3), linear(s.dim, 64)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.modulation, self.head = parameter(2, s.dim), linear(64, s.dim)
        self.cos, self.sin = angles(s.grid, s.dim // s.heads // 2)
        self.flex = self.mask = None
        if HAS_COMPILE:
            from torch.nn.attention.flex_attention import flex_attention
            self.flex, self.mask = flex_attention, window_mask(s.grid)
            if plain:
                self.flex = compiled(flex_attention, dynamic=False)
        self.run = run_block if plain else compiled(run_block, dynamic=False)

    def forward(self, pixels):
        s = self.s
        t, h, w = s.grid
        x = torch.cat((pixels[:1].expand(3, -1, -1, -1), pixels)).to(BF16)
        x = F.pixel_unshuffle(x, 8).unflatten(0, (t, 4)).flatten(1, 2).permute(0, 2, 3, 1)
        c = self.project(x)  # [t, 2h, 2w, 16]
        x = c.unflatten(1, (h, 2)).unflatten(3, (w, 2)).permute(0, 1, 3, 5, 2, 4).reshape(t * h * w, 64)
        x = self.patch(x)
        for b in self.blocks:
            x = self.run(b.weights(), x, self.cos, self.sin, s.grid, self.counts, self.mask, self.flex)
        x = self.head(F.layer_norm(x, (s.dim,), eps=1e-6) * (1 + self.modulation[1]) + self.modulation[0])
        v = x.view(t, h, w, 2, 2, 16).permute(0, 5, 1, 3, 2, 4).reshape(t, 16, 2 * h, 2 * w)
        return c.permute(0, 3, 1, 2) - 0.4 * v


def conv2d(out, into, side=3):
    c = nn.Conv2d(into, out, side, padding=side // 2, device=DEVICE, dtype=BF16)
    return c.to(memory_format=torch.channels_last)


class Residual2d(nn.Module):
    """x + conv(silu(conv(x))), with the frame before beside x where `frames` is 2."""

    def __init__(self, c, frames):
        super().__init__()
        self.frames, self.conv1, self.conv2 = frames, conv2d(c, frames * c), conv2d(c, c)

    def forward(self, x):
        y = x
        if self.frames == 2:
            y = torch.cat((x, torch.cat((torch.zeros_like(x[:1]), x[:-1]))), 1)
        return x + self.conv2(F.silu(self.conv1(y)))


class TinyDecoder(nn.Module):
    """Our conditional tiny decoder, all frames at once."""

    def __init__(self, s, plain=False):
        super().__init__()
        cz, c8, c4, c2 = s.tiny_widths
        self.conv_in, self.grow = conv2d(cz, 16), conv2d(4 * c8, cz, 1)
        self.mem_z = nn.Sequential(Residual2d(cz, 2), Residual2d(cz, 2))
        self.skip8, self.mem8 = conv2d(c8, 192, 1), Residual2d(c8, 2)
        self.up4, self.skip4 = conv2d(4 * c4, c8, 1), conv2d(c4, 48)
        self.rest4 = nn.Sequential(Residual2d(c4, 1), Residual2d(c4, 2))
        self.up2, self.skip2, self.res2 = conv2d(4 * c2, c4, 1), conv2d(c2, 12), Residual2d(c2, 1)
        self.conv_out = conv2d(12, c2)
        self.run = self.decode if plain else compiled(self.decode, dynamic=False)

    def decode(self, z, pixels):
        p = pixels.to(BF16).contiguous(memory_format=torch.channels_last)
        x = self.mem_z(self.conv_in(z))
        x = self.grow(F.silu(x)).unflatten(1, (4, -1)).flatten(0, 1)[3:]
        x = self.mem8(x + self.skip8(F.pixel_unshuffle(p, 8)))
        x = self.rest4(F.pixel_shuffle(self.up4(x), 2) + self.skip4(F.pixel_unshuffle(p, 4)))
        x = self.res2(F.pixel_shuffle(self.up2(x), 2) + self.skip2(F.pixel_unshuffle(p, 2)))
        return F.pixel_shuffle(self.conv_out(x), 2) + pixels

    def forward(self, z, pixels):
        return self.run(z.contiguous(memory_format=torch.channels_last), pixels)


# ---- video autoencoders ----------------------------------------------------------------------------------------------


class Causal(nn.Module):
    """A convolution over time that sees the past alone, from call to call; before a clip are zeros or its first frame."""

    def __init__(self, out, into, time=3, side=3, stride=(1, 1, 1), repeat=False):
        super().__init__()
        w = parameter(out, into, time, side, side).data
        self.weight = nn.Parameter(w.contiguous(memory_format=torch.channels_last_3d), requires_grad=False)
        self.bias = parameter(out)
        self.time, self.stride, self.repeat, self.past = time, stride, repeat, None

    def forward(self, x):
        if self.time > 1:
            if self.past is None:
                head = x[:, :, :1] if self.repeat else torch.zeros_like(x[:, :, :1])
                x = torch.cat((head,) * (self.time - 1) + (x,), 2)
            else:
                x = torch.cat((self.past, x), 2)
            self.past = x[:, :, x.shape[2] - (self.time - self.stride[0]):].clone()
        if self.stride[1] == 2:
            x = F.pad(x, (0, 1, 0, 1))
        return conv_time(x, self.weight, self.bias, self.stride)


def forget(net):
    for m in net.modules():
        if hasattr(m, "past"):
            m.past = None


def channel_norm_silu(x, gain):
    """x / its root mean square over channels * gain, then SiLU: Wan's."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(1, keepdim=True) + 1e-12) * gain.float().view(1, -1, 1, 1, 1)
    return F.silu(y).to(x.dtype)


def group_norm_silu(x, gain, bias, groups):
    """By group and frame, then SiLU: SeedVR2's, whose frames are normalised one by one."""
    y = x.float().unflatten(1, (groups, -1))
    mean = y.mean((2, 4, 5), keepdim=True)
    y = (y - mean) * torch.rsqrt((y - mean).square().mean((2, 4, 5), keepdim=True) + 1e-6)
    y = y.flatten(1, 2) * gain.float().view(1, -1, 1, 1, 1) + bias.float().view(1, -1, 1, 1, 1)
    return F.silu(y).to(x.dtype)


def as_it_lies(x):
    return x.contiguous(memory_format=torch.channels_last_3d)


class Norm(nn.Module):
    fast = {}

    def __init__(self, c, groups):
        super().__init__()
        self.groups, self.gain, self.bias = groups, parameter(c), parameter(c)
        name = "groups" if groups else "channels"
        if name not in Norm.fast:
            Norm.fast[name] = compiled(group_norm_silu if groups else channel_norm_silu, dynamic=True)
        self.run = Norm.fast[name]

    def forward(self, x):
        return self.run(x, self.gain, self.bias, self.groups) if self.groups else self.run(x, self.gain)


class Residual3d(nn.Module):
    def __init__(self, out, into, groups, repeat):
        super().__init__()
        self.norm1, self.conv1 = Norm(into, groups), Causal(out, into, repeat=repeat)
        self.norm2, self.conv2 = Norm(out, groups), Causal(out, out, repeat=repeat)
        self.skip = Causal(out, into, 1, 1) if out != into else None

    def forward(self, x):
        y = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return y.add_(self.skip(x) if self.skip else x)


class FrameAttention(nn.Module):
    """Pixels of a frame see each other; one head."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.qkv, self.out = parameter(c), linear(3 * c, c), linear(c, c)

    def forward(self, x):
        c, h = x.shape[1], x.shape[3]
        y = x[0].permute(1, 2, 3, 0).flatten(1, 2)  # [T, H W, C]
        q, k, v = (p[:, None] for p in self.qkv(F.layer_norm(y, (c,), self.norm)).chunk(3, -1))
        y = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + y.unflatten(1, (h, -1)).permute(3, 0, 1, 2)[None]


class WanDecoder(nn.Module):
    def __init__(self, s):
        super().__init__()
        b = s.wan_base
        self.enter, self.conv_in = Causal(16, 16, 1, 1), Causal(4 * b, 16)
        self.middle = nn.Sequential(Residual3d(4 * b, 4 * b, 0, False), FrameAttention(4 * b),
                                    Residual3d(4 * b, 4 * b, 0, False))
        self.levels, self.times, self.spaces = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, (into, out) in enumerate(((4, 4), (2, 4), (2, 2), (1, 1))):
            self.levels.append(nn.Sequential(*(Residual3d(out * b, (into if j == 0 else out) * b, 0, False)
                                               for j in range(3))))
            if i < 3:
                self.spaces.append(Causal(out * b // 2, out * b, 1))
            if i < 2:
                self.times.append(Causal(2 * out * b, out * b, 3, 1))
        self.norm, self.conv_out = Norm(b, 0), Causal(3, b)

    def latent(self, z, first):
        x = self.middle(self.conv_in(self.enter(z)))
        for i, level in enumerate(self.levels):
            x = level(x)
            if i < 2 and not first:  # frames after the first become two each
                y = self.times[i](x)
                x = y.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
            if i < 3:
                x = self.spaces[i](as_it_lies(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")))
        return self.conv_out(self.norm(x))[0].transpose(0, 1)

    def forward(self, z, pixels):
        forget(self)
        z = as_it_lies(z.transpose(0, 1)[None])
        return torch.cat([self.latent(z[:, :, i:i + 1], i == 0) for i in range(z.shape[2])])


class Encoder3d(nn.Module):
    def __init__(self, s):
        super().__init__()
        widths, g = s.big_vae, s.groups
        parts, into = [Causal(widths[0], 3, repeat=True)], widths[0]
        for i, c in enumerate(widths):
            parts += [Residual3d(c, into, g, True), Residual3d(c, c, g, True)]
            into = c
            if i < len(widths) - 1:  # in space always, in time at the second and third
                deep = i > 0
                parts.append(Causal(c, c, 3 if deep else 1, 3, (2 if deep else 1, 2, 2), True))
        parts += [Residual3d(into, into, g, True), FrameAttention(into), Residual3d(into, into, g, True)]
        self.net = nn.Sequential(*parts, Norm(into, g), Causal(32, into, repeat=True))

    def forward(self, pixels):
        """[T, 3, H, W] -> [1, 16, t, h, w]; the first 5 frames, then 4 at a time."""
        forget(self)
        x = as_it_lies(pixels.to(BF16).transpose(0, 1)[None])
        cuts = [0] + list(range(5, x.shape[2] + 1, 4))
        return torch.cat([self.net(x[:, :, a:b])[:, :16] for a, b in zip(cuts, cuts[1:])], 2)


class Enlarge(nn.Module):
    """Channels to pixels, and to frames; then a convolution."""

    def __init__(self, c, time):
        super().__init__()
        self.time, self.past = time, None
        self.spread, self.conv = Causal(c * 4 * time, c, 1, 1), Causal(c, c, repeat=True)

    def forward(self, x):
        x = self.spread(x).unflatten(1, (2, 2, self.time, -1)).permute(0, 4, 5, 3, 6, 1, 7, 2)
        x = as_it_lies(x.flatten(6, 7).flatten(4, 5).flatten(2, 3))
        if self.time == 2 and self.past is None:  # a clip's first frame stays one
            x = torch.cat((x[:, :, :1], x[:, :, 2:]), 2)
        self.past = True
        return self.conv(x)


class Decoder3d(nn.Module):
    def __init__(self, s):
        super().__init__()
        widths, g = s.big_vae[::-1], s.groups
        into = widths[0]
        parts = [Causal(into, 16, repeat=True), Residual3d(into, into, g, True), FrameAttention(into),
                 Residual3d(into, into, g, True)]
        for i, c in enumerate(widths):
            parts += [Residual3d(c, into if j == 0 else c, g, True) for j in range(3)]
            into = c
            if i < len(widths) - 1:
                parts.append(Enlarge(c, 2 if i < 2 else 1))
        self.net = nn.Sequential(*parts, Norm(into, g), Causal(3, into, repeat=True))

    def forward(self, z):
        """[1, 16, t, h, w] -> [T, 3, H, W]; the first two latents, then one at a time."""
        forget(self)
        cuts = [0] + list(range(2, z.shape[2] + 1))
        return torch.cat([self.net(as_it_lies(z[:, :, a:b]))[0].transpose(0, 1) for a, b in zip(cuts, cuts[1:])])


# ---- a transformer of SeedVR2-3B's shape -----------------------------------------------------------------------------


def spans(n, size, shifted):
    """The stretches that a side of n is cut into."""
    shift = 0.5 if shifted and size < n else 0
    count = math.ceil((n - shift) / size) + (1 if shift else 0)
    cut = [(max(int((i - shift) * size), 0), min(int((i - shift + 1) * size), n)) for i in range(count)]
    return [(a, b) for a, b in cut if b > a]


class Windows:
    """Tokens in the order of windows, the text's rows behind each window's, and places within a window."""

    def __init__(self, s, shifted):
        t, h, w = s.grid
        scale = math.sqrt(45 * 80 / (h * w))
        size = (math.ceil(min(t, 30) / 4), math.ceil(round(h * scale) / 3), math.ceil(round(w * scale) / 3))
        index = torch.arange(t * h * w).view(t, h, w)
        text = t * h * w + torch.arange(s.text)
        order, places, lengths = [], [], []
        for c in spans(w, size[2], shifted):
            for b in spans(h, size[1], shifted):
                for a in spans(t, size[0], shifted):
                    one = index[a[0]:a[1], b[0]:b[1], c[0]:c[1]]
                    order += [one.flatten(), text]
                    lengths.append(one.numel() + s.text)
                    at = torch.meshgrid(*(torch.arange(k, dtype=torch.float32) for k in one.shape), indexing="ij")
                    at = torch.stack([p.flatten() for p in at], 1)
                    at[:, 0] += s.text
                    places += [at, torch.arange(s.text, dtype=torch.float32)[:, None].expand(-1, 3)]
        self.order = torch.cat(order).to(DEVICE)
        of_text = self.order >= t * h * w
        self.text_rows = of_text.nonzero()[:, 0]
        back = torch.empty(t * h * w, dtype=torch.long, device=DEVICE)
        rows = (~of_text).nonzero()[:, 0]
        back[self.order[rows]] = rows
        self.back, self.count, self.lengths = back, len(lengths), lengths
        self.ends = torch.tensor([0] + lengths).cumsum(0).to(torch.int32).to(DEVICE)
        width = s.big_dim // s.big_heads
        per = width // 3 // 2
        a = torch.cat([torch.cat(places)[:, i:i + 1] * 10000.0 ** (-torch.arange(per) / per) for i in range(3)], 1)
        a = F.pad(a, (0, width // 2 - 3 * per)).to(DEVICE)[:, None]  # the last pair is not turned
        self.cos, self.sin = a.cos(), a.sin()


def attend_windows(q, k, v, win):
    """q, k, v [rows, heads, width]: every window by itself."""
    if DEVICE.type == "cuda":
        most = max(win.lengths)
        try:
            from torch.nn.attention.varlen import varlen_attn
            return varlen_attn(q, k, v, win.ends, win.ends, most, most)
        except ImportError:
            return torch.ops.aten._flash_attention_forward(q, k, v, win.ends, win.ends, most, most, 0.0, False, False)[0]
    parts = [[p.transpose(0, 1)[None] for p in x.split(win.lengths)] for x in (q, k, v)]
    return torch.cat([F.scaled_dot_product_attention(*p)[0].transpose(0, 1) for p in zip(*parts)])


class Branch(nn.Module):
    """The weights of a block for video, for text, or for both."""

    def __init__(self, s):
        super().__init__()
        d = s.big_dim
        inside = (int(2 * d * 4 / 3) + 255) // 256 * 256
        self.modulation = parameter(6, d)
        self.qkv, self.out = linear(3 * d, d, False), linear(d, d)
        self.norm_q, self.norm_k = parameter(d // s.big_heads), parameter(d // s.big_heads)
        self.gates, self.down = linear(2 * inside, d, False), linear(d, inside, False)

    def before(self):
        return [self.modulation, self.qkv.weight, self.norm_q, self.norm_k]

    def after(self):
        return [self.modulation, self.out.weight, self.out.bias, self.gates.weight, self.down.weight]


def into_attention(weights, x, time, heads):
    modulation, qkv, norm_q, norm_k = weights
    m = modulation + time
    u = F.rms_norm(x, x.shape[-1:], None, 1e-5) * m[1] + m[0]
    q, k, v = F.linear(u, qkv).unflatten(-1, (3, heads, -1)).unbind(1)
    return F.rms_norm(q, q.shape[-1:], norm_q, 1e-5), F.rms_norm(k, k.shape[-1:], norm_k, 1e-5), v


def after_attention(weights, x, seen, time):
    modulation, out, bias, gates, down = weights
    m = modulation + time
    x = x + F.linear(seen, out, bias) * m[2]
    gate, y = F.linear(F.rms_norm(x, x.shape[-1:], None, 1e-5) * m[4] + m[3], gates).chunk(2, -1)
    return x + F.linear(F.silu(gate) * y, down) * m[5]


def gather_turned(video, text, order, cos, sin):
    q, k, v = (torch.cat(pair)[order] for pair in zip(video, text))
    return rotate(q, cos, sin), rotate(k, cos, sin), v


class BigTransformer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        d = s.big_dim
        self.patch, self.text_in, self.head = linear(d, 132), linear(d, s.text_width), linear(64, d)
        self.text, self.modulation = parameter(s.text, s.text_width), parameter(2, d)
        self.time = nn.Sequential(linear(d, 256), nn.SiLU(), linear(d, d), nn.SiLU(), linear(6 * d, d))
        self.video = nn.ModuleList(Branch(s) for _ in range(s.big_layers))
        self.words = nn.ModuleList(Branch(s) for _ in range(s.big_own))
        self.windows = [Windows(s, False), Windows(s, True)]
        self.before = compiled(into_attention, dynamic=False)
        self.between = compiled(gather_turned, dynamic=False)
        self.after = compiled(after_attention, dynamic=False)

    def block(self, i, x, text, time):
        s, win, video = self.s, self.windows[i % 2], self.video[i]
        words = self.words[i] if i < s.big_own else video
        pair = self.before(video.before(), x, time, s.big_heads), self.before(words.before(), text, time, s.big_heads)
        q, k, v = self.between(*pair, win.order, win.cos, win.sin)
        seen = attend_windows(q, k, v, win).flatten(1)
        of_text = seen[win.text_rows].view(win.count, s.text, -1).mean(0)
        return self.after(video.after(), x, seen[win.back], time), self.after(words.after(), text, of_text, time)

    def forward(self, z, condition):
        t, h, w = self.s.grid
        ones = torch.ones_like(z[:, :1])
        x = torch.cat((z, condition, ones), 1)[0].permute(1, 2, 3, 0)  # [t, 2h, 2w, 33]
        x = self.patch(x.unflatten(1, (h, 2)).unflatten(3, (w, 2)).transpose(2, 3).reshape(t * h * w, 132))
        text = self.text_in(F.layer_norm(self.text, self.text.shape[-1:]))
        angle = 1000 * 10000.0 ** (-torch.arange(128, device=DEVICE) / 128)
        time = self.time(torch.cat((angle.sin(), angle.cos())).to(BF16)).view(6, -1)
        for i in range(self.s.big_layers):
            x, text = self.block(i, x, text, time)
        x = self.head(F.rms_norm(x, x.shape[-1:]) * self.modulation[1] + self.modulation[0])
        x = x.view(t, h, w, 2, 2, 16).transpose(2, 3).reshape(t, 2 * h, 2 * w, 16)
        return x.permute(3, 0, 1, 2)[None]


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(name, s, step, parts):
    """Prints frames a second of a whole step, and milliseconds of its parts."""
    begin = time.perf_counter()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step()
    synchronize()
    print(f"# {name}: {time.perf_counter() - begin:.1f} s until the first step was done", flush=True)
    step()
    t = seconds_of(step)
    figure(f"{name}_fps", s.frames / t, "frames/s", f"{s.frames} frames to {s.high[1]}x{s.high[0]}")
    for part, f in parts.items():
        figure(f"{name}_{part}_ms", 1e3 * seconds_of(f), "ms", part)
    if DEVICE.type == "cuda":
        figure(f"{name}_gb", torch.cuda.max_memory_allocated() * 1e-9, "GB", "memory at the peak")


def measure_paper(name, s, pictures, plain):
    net, tiny = Transformer(s, (4, 4, 4), plain), TinyDecoder(s, plain)
    pixels = pictures.enlarged()
    z = net(pixels)
    measure(f"{name}_tiny", s, lambda: step_of(pictures, net, tiny),
            {"transformer": lambda: net(pixels), "decoder": lambda: tiny(z, pixels)})
    net.counts = (1, 3, 8)
    measure(f"{name}_few_tiny", s, lambda: step_of(pictures, net, tiny), {"transformer": lambda: net(pixels)})
    net.counts = (4, 4, 4)
    if plain:
        Norm.fast["channels"] = channel_norm_silu
    wan = WanDecoder(s)
    if plain:
        del Norm.fast["channels"]
    measure(f"{name}_vae", s, lambda: step_of(pictures, net, wan), {} if plain else {"decoder": lambda: wan(z, pixels)})


def paper(s, pictures):
    measure_paper("paper", s, pictures, False)


def plain(s, pictures):
    measure_paper("plain", s, pictures, True)


def step_of(pictures, net, decoder):
    pixels = pictures.enlarged()
    pictures.finish(decoder(net(pixels), pixels))


def seedvr2(s, pictures):
    encoder, net, decoder = Encoder3d(s), BigTransformer(s), Decoder3d(s)
    millions = sum(p.numel() for p in net.parameters()) * 1e-6
    print(f"# seedvr2: {millions:.0f} M weights in the transformer", flush=True)

    def step():
        condition = encoder(pictures.enlarged())
        noise = torch.randn_like(condition)
        pictures.finish(decoder(noise - net(noise, condition)))

    pixels = pictures.enlarged()
    z = encoder(pixels)
    measure("seedvr2", s, step, {"encoder": lambda: encoder(pixels), "transformer": lambda: net(z, z),
                                 "decoder": lambda: decoder(z)})


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seconds", type=float, default=300, help="begin nothing new after so many")
    options.add_argument("--only", default="paper,plain,seedvr2", help="which networks, with commas between")
    options.add_argument("--tiny", action="store_true", help="small sizes, to see that it works")
    o = options.parse_args()
    begin, failed = time.perf_counter(), 0
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    if HAS_COMPILE:
        from torch import _dynamo
        _dynamo.config.recompile_limit = 64
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "the CPU"
    print(f"# PyTorch {torch.__version__} on {where}", flush=True)
    s = Shape(o.tiny)
    with torch.inference_mode():
        choose_attention(s)
        choose_convolution(s)
        pictures = Pictures(s)
        for f in (paper, plain, seedvr2):
            if f.__name__ not in o.only.split(","):
                continue
            if time.perf_counter() - begin > o.seconds:
                print(f"# {f.__name__}: left out for want of time", flush=True)
                continue
            try:
                f(s, pictures)
            except Exception as e:  # the other one is measured all the same
                failed = 1
                print(f"# {f.__name__} failed: {type(e).__name__}: {e}", flush=True)
                import traceback
                traceback.print_exc()
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
    return failed


if __name__ == "__main__":
    sys.exit(main())
