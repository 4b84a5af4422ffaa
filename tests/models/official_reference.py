"""The released FmFormer modules restated as plain functions of their state dict, with explicit softmax
attention.

Written from a description of the modules, independently of `fmfbench_models`: nothing of it is imported here.
"""

from __future__ import annotations

import zlib

import torch
from torch.nn import functional as F


def layer_norm(s, key, x):
    return F.layer_norm(x, (x.shape[-1],), s[f"{key}.weight"], s[f"{key}.bias"])


def linear(s, key, x):
    return x @ s[f"{key}.weight"].T + s.get(f"{key}.bias", 0)


def attend(q, k, v, heads=3):
    d = q.shape[-1]
    out = []
    for h in range(heads):
        rows = slice(h * d // heads, (h + 1) * d // heads)
        score = q[..., rows] @ k[..., rows].transpose(1, 2) / (d // heads) ** 0.5
        out.append(torch.softmax(score, -1) @ v[..., rows])
    return torch.cat(out, -1)


def self_attention(s, key, x):
    q, k, v = linear(s, f"{key}.to_qkv", layer_norm(s, f"{key}.norm", x)).chunk(3, -1)
    return x + linear(s, f"{key}.to_out.0", attend(q, k, v))


def cross_attention(s, key, a, b):
    q1, k1, v1 = linear(s, f"{key}.to_qkv1", layer_norm(s, f"{key}.norm1", a)).chunk(3, -1)
    q2, k2, v2 = linear(s, f"{key}.to_qkv2", layer_norm(s, f"{key}.norm2", b)).chunk(3, -1)
    return (
        a + linear(s, f"{key}.to_out1.0", attend(q1, k2, v2)),
        b + linear(s, f"{key}.to_out2.0", attend(q2, k1, v1)),
    )


def mlp(s, key, x):
    hidden = F.gelu(linear(s, f"{key}.net.1", layer_norm(s, f"{key}.net.0", x)))
    return x + linear(s, f"{key}.net.4", hidden)


def patches(video):
    """(b, 3, T, H, W) -> (b, T/2*H/8*W/8, 384), each value placed by the index rule ((p1*8+p2)*2+pf)*3+c."""
    b, c, t, h, w = video.shape
    out = video.new_zeros(b, t // 2, h // 8, w // 8, 384)
    for p1 in range(8):
        for p2 in range(8):
            for pf in range(2):
                for channel in range(c):
                    out[..., ((p1 * 8 + p2) * 2 + pf) * 3 + channel] = video[:, channel, pf::2, p1::8, p2::8]
    return out.reshape(b, -1, 384)


def embed(s, key, x, first=1):
    x = layer_norm(s, f"{key}.{first}", x)
    return layer_norm(s, f"{key}.{first + 2}", linear(s, f"{key}.{first + 1}", x))


def with_class_token(s, key, x):
    return torch.cat([s[key].expand(len(x), -1, -1), x], 1)


def video_tokens(s, video, suffix, position, frames):
    x = with_class_token(s, f"cls_token{suffix}", embed(s, f"to_patch_embedding{suffix}", patches(video)))
    x = x + s[position][:, : x.shape[1]]
    if "get_additional_tokens.pos_embedding" in s:
        half = F.interpolate(video, (frames, 32, 32), mode="nearest")
        extra = embed(s, "get_additional_tokens.to_patch_embedding", patches(half))
        x = torch.cat([x, extra + s["get_additional_tokens.pos_embedding"]], 1)
    return x


def conv_unit(s, key, x):
    x = torch.relu(x)  # in place in the original: the sum below is of this value
    mean, var = s[f"{key}.bn1.running_mean"], s[f"{key}.bn1.running_var"]
    y = F.batch_norm(x, mean, var, s[f"{key}.bn1.weight"], s[f"{key}.bn1.bias"])
    return F.conv2d(y, s[f"{key}.conv1.weight"], s[f"{key}.conv1.bias"], padding=1) + x


def upsample(s, key, x):
    x = F.conv_transpose2d(x, s[f"{key}.0.weight"], s[f"{key}.0.bias"], stride=2)
    return conv_unit(s, f"{key}.1", x)


def image(s, key, x, steps, side):
    b, _, d = x.shape
    x = x.reshape(b, steps, side, side, d).permute(0, 1, 4, 2, 3).reshape(b, steps * d, side, side)
    return F.conv2d(x, s[f"{key}.weight"], s[f"{key}.bias"])


def dense_head(s, x, steps):
    n = steps * 64
    y = image(s, "head.de_patch_embedding.1", x[:, 1 : 1 + n], steps, 8)
    if "head.decode_dilated.0.weight" in s:
        low = image(s, "head.de_patch_embedding_dilated.1", x[:, 1 + n :], steps, 4)
        y = y + upsample(s, "head.decode_dilated", low)
    for stage in ("head.decode1", "head.decode2", "head.decode3"):
        y = upsample(s, stage, y)
    return F.conv2d(y, s["head.decode_out.weight"], s["head.decode_out.bias"])


def class_logits(s, key, token):
    return linear(s, f"{key}.1", layer_norm(s, f"{key}.0", token))


def cross_modal(s, video, current, frames=10):
    v = video_tokens(s, video, "1", "pos_embedding1", frames)
    c = with_class_token(s, "cls_token2", embed(s, "to_patch_embedding2", current, 0))
    c = c + s["pos_embedding2"][:, : c.shape[1]]
    for i in range(6):
        key = f"transformer.layers.{i}"
        v, c = self_attention(s, f"{key}.0.stream1", v), self_attention(s, f"{key}.0.stream2", c)
        v, c = cross_attention(s, f"{key}.0.cross_attn", v, c)
        v, c = mlp(s, f"{key}.1.ff1", v), mlp(s, f"{key}.1.ff2", c)
    if "head.decode_out.weight" in s:
        return dense_head(s, v, frames // 2)
    return class_logits(s, "head.mlp_head1", v[:, 0]) + class_logits(s, "head.mlp_head2", c[:, 0])


def plain_encoder(s, x):
    for i in range(6):
        x = mlp(s, f"transformer.layers.{i}.1", self_attention(s, f"transformer.layers.{i}.0", x))
    return x


def video_only(s, video, current=None, frames=10):
    x = plain_encoder(s, video_tokens(s, video, "", "pos_embedding.pe", frames))
    if "head.decode_out.weight" in s:
        return dense_head(s, x, frames // 2)
    return class_logits(s, "head.mlp_head1", x[:, 0])


def current_only(s, video, current, frames=10):
    x = with_class_token(s, "cls_token", embed(s, "to_patch_embedding", current, 0))
    x = plain_encoder(s, x + s["pos_embedding"][:, : x.shape[1]])
    return linear(s, "mlp_head", layer_norm(s, "transformer.norm", x[:, 0]))


def filled(shapes, dtype=torch.float64):
    """The formula-filled weights of the golden outputs: name -> tensor."""
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
        elif name.endswith("running_mean"):
            state[name] = torch.zeros(shape, dtype=dtype)
        elif name.endswith("running_var"):
            state[name] = torch.ones(shape, dtype=dtype)
        else:
            numel = torch.Size(shape).numel()
            phase = zlib.crc32(name.encode()) % 1000
            value = 0.1 * torch.sin(0.7 * phase + 0.13 * torch.arange(numel, dtype=torch.float64))
            if len(shape) == 1 and name.endswith("weight"):
                value = value + 1
            state[name] = value.reshape(shape).to(dtype)
    return state


def golden_input(size, frames, length):
    video = 127.5 * (1 + torch.sin(0.011 * torch.arange(size * 3 * frames * 64 * 64, dtype=torch.float64)))
    current = 9000 + 2000 * torch.sin(0.37 * torch.arange(size * length * 3, dtype=torch.float64))
    return video.reshape(size, 3, frames, 64, 64), current.reshape(size, length, 3)


def shapes(kind, task="cls", *, dilated=True, frames=10, length=240):  # noqa: PLR0912, PLR0915  one table
    """Names and shapes of a released model: kind "vicu", "video" or "current"; task "cls" or "seg"."""
    found: dict[str, tuple[int, ...]] = {}

    def put(key, *shape, bias=True):
        found[f"{key}.weight"] = shape
        if bias:
            found[f"{key}.bias"] = shape[:1]

    def put_embed(key, values, first):
        put(f"{key}.{first}", values)
        put(f"{key}.{first + 1}", 96, values)
        put(f"{key}.{first + 2}", 96)

    def put_attention(key):
        put(f"{key}.norm", 96)
        put(f"{key}.to_qkv", 288, 96, bias=False)
        put(f"{key}.to_out.0", 96, 96)

    def put_mlp(key):
        put(f"{key}.net.0", 96)
        put(f"{key}.net.1", 384, 96)
        put(f"{key}.net.4", 96, 384)

    def put_up(key, inputs, outputs):
        found[f"{key}.0.weight"] = (inputs, outputs, 2, 2)
        found[f"{key}.0.bias"] = (outputs,)
        put(f"{key}.1.conv1", outputs, outputs, 3, 3)
        put(f"{key}.1.bn1", outputs)
        found[f"{key}.1.bn1.running_mean"] = found[f"{key}.1.bn1.running_var"] = (outputs,)
        found[f"{key}.1.bn1.num_batches_tracked"] = ()

    standard = 32 * frames + 1
    video, current = ("1", "2") if kind == "vicu" else ("", "")
    if kind != "current":
        found["pos_embedding1" if kind == "vicu" else "pos_embedding.pe"] = (1, standard, 96)
        found[f"cls_token{video}"] = (1, 1, 96)
        put_embed(f"to_patch_embedding{video}", 384, 1)
        if dilated:
            found["get_additional_tokens.pos_embedding"] = (1, 8 * frames, 96)
            put_embed("get_additional_tokens.to_patch_embedding", 384, 1)
    if kind != "video":
        found[f"pos_embedding{current}"] = (1, length + 1, 96)
        found[f"cls_token{current}"] = (1, 1, 96)
        put_embed(f"to_patch_embedding{current}", 3, 0)
    for i in range(6):
        key = f"transformer.layers.{i}"
        if kind == "vicu":
            put_attention(f"{key}.0.stream1")
            put_attention(f"{key}.0.stream2")
            for n in "12":
                put(f"{key}.0.cross_attn.norm{n}", 96)
                put(f"{key}.0.cross_attn.to_qkv{n}", 288, 96, bias=False)
                put(f"{key}.0.cross_attn.to_out{n}.0", 96, 96)
            put_mlp(f"{key}.1.ff1")
            put_mlp(f"{key}.1.ff2")
        else:
            put_attention(f"{key}.0")
            put_mlp(f"{key}.1")
    if kind == "current":
        put("transformer.norm", 96)
        put("mlp_head", 2, 96)
    elif task == "cls":
        for n in "12":
            put(f"head.mlp_head{n}.0", 96)
            put(f"head.mlp_head{n}.1", 2, 96)
    else:
        put("head.de_patch_embedding.1", 96, 48 * frames, 1, 1)
        if dilated:
            put("head.de_patch_embedding_dilated.1", 96, 48 * frames, 1, 1)
            put_up("head.decode_dilated", 96, 96)
        for i, (inputs, outputs) in enumerate(((96, 128), (128, 64), (64, 32)), start=1):
            put_up(f"head.decode{i}", inputs, outputs)
        put("head.decode_out", 2, 32, 1, 1)
    return found
