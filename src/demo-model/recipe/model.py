"""The model: a small Llama, with the forward and backward passes that train it on a CPU.

bf16 matrix products over fp32 weights. Two departures from a textbook Llama make it learn faster and leave no trace in the
file: the layers' norms have no weights (they stay one), and RoPE turns the halves of a head (export_gguf.py reorders the rows).
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

DIM, LAYERS, HEADS, KV, HD, FFN, THETA, EPS, CONTEXT = 256, 4, 4, 2, 64, 704, 1e5, 1e-5, 8192
BF = torch.bfloat16


class Attention(torch.autograd.Function):
    """Causal attention; torch's CPU flash kernel forward, chunks of queries backward (its own backward is slower)."""

    @staticmethod
    def forward(ctx, q, k, v):
        g = q.shape[1] // k.shape[1]
        o, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k.repeat_interleave(g, 1), v.repeat_interleave(g, 1), 0.0, True)
        ctx.save_for_backward(q, k, v, o, lse)
        return o

    @staticmethod
    def backward(ctx, do):
        q, k, v, o, lse = ctx.saved_tensors
        (b, h, t, d), kv = q.shape, k.shape[1]
        n, g, size = b * kv, h // kv, max(256, t // 8)
        q, o, do, lse = (x.reshape(n, g, t, -1) for x in (q, o, do, lse.unsqueeze(-1)))
        k, v = k.reshape(n, t, d), v.reshape(n, t, d)
        delta = (do.float() * o.float()).sum(-1, keepdim=True)
        dq, dk, dv = [], 0, 0
        for i in range(0, t, size):
            j = min(t, i + size)
            qi, gi = q[:, :, i:j].reshape(n, -1, d), do[:, :, i:j].reshape(n, -1, d)
            s = torch.bmm(qi, k[:, :j].transpose(1, 2)).view(n, g, j - i, j).float() * d ** -0.5
            mask = torch.arange(j) <= torch.arange(i, j)[:, None]
            p = torch.where(mask, torch.exp(s - lse[:, :, i:j]), 0.0)
            dp = torch.bmm(gi, v[:, :j].transpose(1, 2)).view(n, g, j - i, j).float()
            ds = (p * (dp - delta[:, :, i:j]) * d ** -0.5).to(BF).view(n, -1, j)
            p = p.to(BF).view(n, -1, j)
            dq.append(torch.bmm(ds, k[:, :j]).view(n, g, j - i, d))
            grown = lambda x: F.pad(x.float(), (0, 0, 0, t - j))
            dk, dv = dk + grown(torch.bmm(ds.transpose(1, 2), qi)), dv + grown(torch.bmm(p.transpose(1, 2), gi))
        return torch.cat(dq, 2).view(b, h, t, d), dk.to(BF).view(b, kv, t, d), dv.to(BF).view(b, kv, t, d)


def unit(x):
    """RMSNorm; its weights stay one."""
    return F.rms_norm(x, (DIM,), eps=EPS).to(BF)


def turned(w):
    """Rows such that RoPE's quarter turn of w's output is a matrix product too, which is faster than moving halves."""
    a, b = w.view(-1, 2, HD // 2, DIM).unbind(1)
    return torch.stack([-b, a], 1).view(w.shape)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        matrix = lambda rows, cols, gain=1.0: nn.Parameter(torch.randn(rows, cols) * gain * cols ** -0.5)
        out = (2 * LAYERS) ** -0.5
        self.q, self.k, self.v = matrix(HEADS * HD, DIM), matrix(KV * HD, DIM), matrix(KV * HD, DIM)
        self.o = matrix(DIM, HEADS * HD, out)
        self.gate, self.up, self.down = matrix(FFN, DIM), matrix(FFN, DIM), matrix(DIM, FFN, out)

    @torch.compile(dynamic=False)
    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        n = (HEADS + KV) * HD
        y = F.linear(unit(x), torch.cat([self.q, self.k, turned(self.q), turned(self.k), self.v]).to(BF))
        heads = lambda y: y.float().view(b, t, -1, HD)
        qk = (heads(y[..., :n]) * cos + heads(y[..., n:2 * n]) * sin).to(BF).transpose(1, 2)
        v = y[..., 2 * n:].view(b, t, KV, HD).transpose(1, 2)
        a = Attention.apply(*qk.split([HEADS, KV], 1), v)
        x = x + F.linear(a.transpose(1, 2).reshape(b, t, -1), self.o.to(BF))
        y = F.linear(unit(x), torch.cat([self.gate, self.up]).to(BF))
        return x + F.linear(F.silu(y[..., :FFN]) * y[..., FFN:], self.down.to(BF))


class Model(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.emb = nn.Parameter(torch.randn(vocab, DIM) * 0.2)
        self.norm = nn.Parameter(torch.full((DIM,), 0.15))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.local_heads()

    @torch.no_grad()
    def local_heads(self):
        """Start with heads of the first layer that look 1, 2, 3 and 4 positions back: a constant component of the
        embeddings acts as a bias of q and k, and RoPE turns the pair into a peak at the wanted distance."""
        self.emb[:, 0] = 0.8
        f = THETA ** (-torch.arange(0, HD, 2) / HD)
        c = 1.8 * (torch.arange(HD // 2) < 10)
        zero = torch.zeros(HD // 2)
        self.layers[0].k.view(KV, HD, DIM)[:, :, 0] = torch.cat([c, zero])
        for h in range(HEADS):
            a = f * (h + 1)
            self.layers[0].q.view(HEADS, HD, DIM)[h, :, 0] = torch.cat([c * a.cos(), -c * a.sin()])

    def forward(self, ids, where, y, weight, cos, sin):
        """(weighted loss at the flat places `where`, whether each prediction there is right)"""
        x = F.embedding(ids, self.emb)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(x.view(-1, DIM)[where], y, weight)

    @torch.compile(dynamic=False)
    def head(self, x, y, weight):
        logits = F.linear(unit(x), (self.emb * self.norm).to(BF)).float()
        return (F.cross_entropy(logits, y, reduction="none") * weight).sum(), logits.argmax(-1) == y
