"""Trains the archivist on the text of world.py. usage: train.py TOKENIZER.json OUT.pt

Two processes of one thread each: Muon for the matrices of the layers and AdamW for the embeddings. The texts grow from 128 to
8192 tokens; all of it follows from fixed seeds and step numbers. A checkpoint is written behind each stage; one
that exists is gone on from.
"""
import collections
import os
import random
import sys
import time

import torch
import torch.distributed as dist
from tokenizers import Tokenizer

import world
from model import CONTEXT, HD, THETA, Model
from muon import Muon

RANKS = 2
# rates: share of the peak rates; decay: share of the steps over which they fall to zero; mix: of the questions; weights: of the
# kinds of tokens; shuffled: whether the lengths come in random order. A stage starts with fresh optimisers.
Stage = collections.namedtuple("Stage", "rates decay mix weights shuffled phases")
# length in tokens, rows of a batch, number of steps, share of echoed texts, share of retold texts
Phase = collections.namedtuple("Phase", "length rows steps echoed retold")
STAGES = [
    Stage(1.0, 0.5, world.MIX, [0.15, 0.4, 1, 1], False, [
        Phase(128, 32, 330, 1.0, 0.0), Phase(128, 32, 300, 0.1, 0.4), Phase(256, 24, 100, 0.05, 0.2), Phase(512, 16, 110, 0, 0.1),
        Phase(1024, 8, 100, 0, 0.05), Phase(2048, 4, 80, 0, 0.05), Phase(4096, 2, 50, 0, 0), Phase(8192, 2, 8, 0, 0)]),
    Stage(0.4, 0.9, world.MIX, [0.15, 0.4, 1, 1], False, [
        Phase(512, 16, 60, 0, 0.05), Phase(1024, 8, 60, 0, 0), Phase(2048, 4, 50, 0, 0), Phase(4096, 2, 35, 0, 0),
        Phase(8192, 2, 5, 0, 0)]),
    Stage(0.3, 0.9, world.Mix(0.6, 0.5, 0.08, 0), [0.03, 0.2, 1, 4], True, [
        Phase(256, 32, 90, 0, 0), Phase(512, 16, 360, 0, 0), Phase(1024, 8, 440, 0, 0), Phase(2048, 4, 340, 0, 0),
        Phase(4096, 2, 200, 0, 0), Phase(8192, 2, 36, 0, 0)])]
WARM, MUON_LR, ADAM_LR = 30, 0.01, 2e-3  # steps of warm-up, peak rates


def schedule(phases, shuffled):
    """The phase of every step; if not shuffled, every fourth step from the third phase on repeats a shorter length."""
    if shuffled:
        steps = [phase for phase in phases for _ in range(phase.steps)]
        random.Random(0).shuffle(steps)
        return steps
    return [phases[i - 1 - s // 4 % min(i - 1, 3)] if i > 1 and s % 4 == 3 else phase
            for i, phase in enumerate(phases) for s in range(phase.steps)]


def batch(tok, rng, length, rows, echoed, retold, mix):
    """Token ids and their kinds, each [rows, length + 1], and the positions of the tokens."""
    out, pad = [], (0, world.TEXT)
    for _ in range(rows):
        size, u = int(length * rng.uniform(0.95, 1.05)), rng.random()
        text = (world.echoed(rng, size) if u < echoed else world.retold(rng, size) if u < echoed + retold else
                world.document(rng, size, mix=mix))
        row = [pad] + [(i, kind) for s, kind in text for i in tok.encode(s).ids]
        out.append((row + [pad] * (length + 1 - len(row)))[:length + 1])
    # jumps of the positions show short texts all distances up to CONTEXT
    pos, left = torch.arange(length), CONTEXT - length
    for cut in rng.sample(range(length), 5) if rng.random() < 0.5 else []:
        jump = rng.randint(0, left)
        pos[cut:] += jump
        left -= jump
    return *torch.tensor(out).unbind(-1), pos


def train(rank, path, out):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    torch._dynamo.config.recompile_limit = 32
    dist.init_process_group("gloo", init_method=f"file://{os.path.abspath(out)}.sync", rank=rank, world_size=RANKS)
    tok = Tokenizer.from_file(path)
    model = Model(tok.get_vocab_size())
    done = 0
    if os.path.exists(out):
        state = torch.load(out)
        model.load_state_dict(state["model"])
        done = state["step"]
    first = 0
    for stage in STAGES:
        steps = schedule(stage.phases, stage.shuffled)
        if first >= done:
            train_stage(rank, tok, model, stage, steps, first, out)
        first += len(steps)


def train_stage(rank, tok, model, stage, steps, first, out):
    """All steps of a stage; `first` is the number of the steps before it."""
    if first:
        torch.manual_seed(first)
    params, weights = list(model.parameters()), torch.tensor(stage.weights)
    muon = Muon(model.layers.parameters(), MUON_LR * stage.rates)
    adam = torch.optim.AdamW([model.emb, model.norm], ADAM_LR * stage.rates, betas=(0.9, 0.98), eps=1e-9, weight_decay=0)
    rates = [(g, g["lr"]) for o in (muon, adam) for g in o.param_groups]
    freq = THETA ** (-torch.arange(0, HD, 2) / HD)
    start = mark = time.time()
    tokens, seen, sums = 0, 0, torch.zeros(8)
    for i, (length, rows, _, echoed, retold) in enumerate(steps):
        ids, kinds, pos = batch(tok, random.Random((first + i) * RANKS + rank), length, rows // RANKS, echoed, retold, stage.mix)
        y, kind = ids[:, 1:].flatten(), kinds[:, 1:].flatten()
        # a fixed number of places (compiled code has fixed shapes): answers first, then other text
        where = (kind + torch.rand(kind.shape)).topk(len(kind) * 2 // 5).indices
        y, kind = y[where], kind[where]
        weight = weights[kind]
        angle = (pos[:, None] * freq).repeat(1, 2)[:, None]
        loss, right = model(ids[:, :-1], where, y, weight / weight.sum(), angle.cos(), angle.sin())
        loss.backward()
        stats = [loss.detach(), torch.ones(())] + [f(kind == k) for k in (world.VALUE, world.WORDS, world.BIRD)
                                                   for f in (lambda m: right[m].sum(), torch.sum)]
        flat = torch.cat([p.grad.flatten() for p in params] + [torch.stack(stats)])
        dist.all_reduce(flat)
        for p, g in zip(params, (flat[:-8] / RANKS).split([p.numel() for p in params])):
            p.grad = g.view_as(p)
        rate = min(1, (i + 1) / WARM, (len(steps) - i) / len(steps) / stage.decay)
        for group, lr in rates:
            group["lr"] = lr * rate
        for o in (muon, adam):
            o.step()
            o.zero_grad()
        sums += flat[-8:]
        tokens, seen = tokens + length * rows, seen + length * rows
        if rank == 0 and ((i + 1) % 50 == 0 or i + 1 == len(steps)):
            loss, n, value, values, words, of, bird, birds = sums.tolist()
            print(f"{(time.time() - start) / 60:.1f} min, step {first + i + 1}, length {length}, {tokens / 1e6:.1f}M tokens, "
                  f"{seen / (time.time() - mark):.0f} tokens/s, loss {loss / n:.3f}, right: value tokens {value / values:.3f}, "
                  f"words {words / max(1, of):.3f}, new birds {bird / max(1, birds):.3f}", flush=True)
            sums, seen, mark = torch.zeros(8), 0, time.time()
    if rank == 0:
        torch.save({"model": model.state_dict(), "step": first + len(steps)}, out)


if __name__ == "__main__":
    if os.path.exists(sys.argv[2] + ".sync"):  # left behind by a run that was stopped
        os.remove(sys.argv[2] + ".sync")
    torch.multiprocessing.spawn(train, sys.argv[1:], RANKS)
