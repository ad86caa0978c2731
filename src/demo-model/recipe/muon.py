"""The optimiser of the layers' matrices."""
import collections

import torch


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal by five Newton-Schulz steps; matrices of a shape go together."""

    def __init__(self, params, lr, momentum=0.95):
        shapes = collections.defaultdict(list)
        for p in params:
            shapes[p.shape].append(p)
        super().__init__([{"params": ps} for ps in shapes.values()], {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            ps, mu = group["params"], group["momentum"]
            g, state = torch.stack([p.grad for p in ps]), self.state[ps[0]]
            m = state.setdefault("momentum", torch.zeros_like(g)).lerp_(g, 1 - mu)
            x = g.lerp(m, mu).to(torch.bfloat16)
            tall = x.shape[1] > x.shape[2]
            x = x.transpose(1, 2) if tall else x
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = (x.transpose(1, 2) if tall else x).float() * max(1, g.shape[1] / g.shape[2]) ** 0.5
            for p, u in zip(ps, x):
                p.sub_(u, alpha=group["lr"])
