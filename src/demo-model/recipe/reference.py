"""A plain fp32 reading of a checkpoint (weights rounded to f16), whose decode steps may be restricted to the best rows.

Per KV head a decode step keeps the union of the top N positions by softmax weight summed over the group, the first 4 and the
last 32; the rest is dropped and the weights are renormalised. All other rows use full attention.
"""
import torch
import torch.nn.functional as F

from model import DIM, EPS, HD, HEADS, KV, LAYERS, THETA

GROUP, SINKS, RECENT = HEADS // KV, 4, 32
# (name, N, whether the first layer is left alone)
MODES = [("full", 0, True)] + [(f"top-{n}{'' if dense else ' all'}", n, dense)
                               for dense in (True, False) for n in (16, 32, 64, 128)]


class Llama:
    def __init__(self, path):
        self.w = {k: v.half().float() if v.dim() == 2 else v.float() for k, v in torch.load(path)["model"].items()}
        self.freq = THETA ** (-torch.arange(0, HD, 2) / HD)

    def rope(self, x, past):
        angle = torch.arange(past, past + x.shape[1])[:, None] * self.freq
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def run(self, ids, cache=None, decode=None, mode=MODES[0], tails=None):
        """Logits of all ids behind cache (a list of (k, v) per layer), and the new cache. decode: flags of the rows."""
        top, dense = mode[1:]
        past = cache[0][0].shape[1] if cache else 0
        t, new = len(ids), []
        x = self.w["emb"][torch.tensor(ids)]
        unit = lambda x: F.rms_norm(x, (DIM,), eps=EPS)
        for i in range(LAYERS):
            w = lambda name: self.w[f"layers.{i}.{name}"]
            heads = lambda name: F.linear(unit(x), w(name)).view(t, -1, HD).transpose(0, 1)
            q, k, v = self.rope(heads("q") * HD ** -0.5, past).reshape(KV, GROUP, t, HD), self.rope(heads("k"), past), heads("v")
            if cache:
                k, v = torch.cat([cache[i][0], k], 1), torch.cat([cache[i][1], v], 1)
            new.append((k, v.contiguous()))
            o = torch.empty(KV, GROUP, t, HD)
            for a in range(0, t, 256):
                b = min(t, a + 256)
                s = torch.bmm(q[:, :, a:b].reshape(KV, -1, HD), k[:, :past + b].transpose(1, 2))
                s = s.view(KV, GROUP, b - a, -1)
                s[..., past + a:] += torch.full((b - a, b - a), -torch.inf).triu(1)
                p = s.softmax(-1)
                o[:, :, a:b] = torch.bmm(p.view(KV, -1, past + b), v[:, :past + b]).view(KV, GROUP, b - a, HD)
                if decode is not None and decode[a:b].any() and top and not (dense and i == 0):
                    r = decode[a:b].nonzero()[:, 0]
                    o[:, :, a + r] = self.restricted(p[:, :, r], v[:, :past + b], past + a + r, top, tails, i)
            x = x + F.linear(o.view(HEADS, t, HD).transpose(0, 1).reshape(t, -1), w("o"))
            x = x + F.linear(F.silu(F.linear(unit(x), w("gate"))) * F.linear(unit(x), w("up")), w("down"))
        return F.linear(unit(x) * self.w["norm"], self.w["emb"]), new

    @staticmethod
    def restricted(p, v, at, top, tails, layer):
        """The renormalised sum over the kept rows; p [KV, GROUP, R, n] are softmax weights of R rows at positions `at` over
        v [KV, n, HD]."""
        n = p.shape[-1]
        pos, mass = torch.arange(n), p.sum(1)
        keep = torch.zeros_like(mass, dtype=torch.bool).scatter_(-1, mass.topk(min(top, n), -1).indices, True)
        keep |= (pos < SINKS) | ((pos > at[:, None] - RECENT) & (pos <= at[:, None]))
        kept = p * keep[:, None]
        have = kept.sum(-1, keepdim=True)
        if tails is not None:
            tails.setdefault(layer, []).append((1 - have).clamp(min=0).flatten())
        return torch.einsum("kgrn,knd->kgrd", kept, v) / have
