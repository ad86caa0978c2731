"""Measures a checkpoint, and makes the archives and the golden data.

usage: evaluate.py TOKENIZER.json CKPT.pt table LENGTH DOCS BIRD_DOCS SEED OUT.json | archives DIR | golden DIR
       | check DIR GGUF... (compares transformers' reading of the files with the golden data)
An answer is right if every token of it is the argmax, which is what greedy decoding gives. Every row that predicts a token of
an answer counts as a decode step. reference.py says what the modes do.
"""
import json
import os
import random
import sys

import numpy as np
import torch
from tokenizers import Tokenizer

import world
from reference import MODES, Llama

# where tokenizers differ: blanks, digits, apostrophes, letters beyond ASCII, markers inside of text, control characters
AWKWARD = [
    "two  blanks   three", "\ttab\t\ttabs", "line\n\nline \n end ", "1742 and 4729, 3.14", "it's the keepers' won't",
    "a \U0001F98A fox \U0001F468\u200D\U0001F469\u200D\U0001F467", "caf\u00e9 na\u00efve Stra\u00dfe \u0141\u00f3d\u017a",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd \ud55c\uad6d\uc5b4",
    "<|im_start|>user\nhi<|im_end|><|endoftext|> <|im_end|>\n", "snake_case __init__ x+=1;//  #!",
    " \u00a0\u2003 spaces\r\n", ""]


def ask(tok, item, chat, first):
    """Ids of a question with its answer, and which of the rows predict a token of the answer."""
    parts = [(tok.encode(t).ids, kind) for t, kind in world.answered(*item, chat, first)]
    ids = [i for e, _ in parts for i in e]
    kinds = [kind for e, kind in parts for _ in e]
    return ids, [int(k != world.TEXT) for k in kinds[1:]] + [0]


def grade(logits, ids, rows):
    """Right or wrong for each answer (each run of marked rows)."""
    hit, out = logits.argmax(-1)[:-1] == torch.tensor(ids[1:]), []
    for i, r in enumerate(rows):
        if r and not (i and rows[i - 1]):
            out.append(True)
        if r:
            out[-1] &= bool(hit[i])
    return out


def table(tok, model, length, docs, bird_docs, seed, out):
    """Recall (by attribute too) over `docs` documents, the bird question over `bird_docs`; one document in three is a chat."""
    rng = random.Random(seed)
    asked = min(20, length // 100)
    names = ["recall", "bird"] + list(world.ATTRIBUTES)
    res = {m[0]: {name: [] for name in names} | {"tail": {}} for m in MODES}
    for d in range(max(docs, bird_docs)):
        chat = d % 3 == 2
        text, facts, bird = world.archive_text(rng, length - 36 * asked - 36)
        pre = [0] + tok.encode((world.USER if chat else "") + text).ids
        _, cache = model.run(pre)
        told = rng.sample(facts, min(asked, len(facts)))
        jobs = [("recall", [world.question(rng, f) for f in told])] if d < docs else []
        jobs += [("bird", [world.bird_question(rng, bird)])] if bird and d < bird_docs else []
        for name, items in jobs:
            parts = [ask(tok, q, chat, i == 0) for i, q in enumerate(items)]
            ids, rows = sum((p[0] for p in parts), []), sum((p[1] for p in parts), [])
            for m in MODES:
                logits, _ = model.run(ids, cache, torch.tensor(rows).bool(), m, res[m[0]]["tail"] if name == "recall" else None)
                marks = grade(logits, ids, rows)
                res[m[0]][name] += marks
                for f, right in zip(told if name == "recall" else [], marks):
                    res[m[0]][f[0]].append(right)
        print(length, d, len(pre), " ".join(f"{k} {sum(res['full'][k])}/{len(res['full'][k])}" for k in names), flush=True)
    for r in res.values():
        r["tail"] = {l: [float(torch.cat(x).mean()), float(torch.cat(x).max())] for l, x in r["tail"].items()}
        for k in names:
            r[k] = [sum(r[k]), len(r[k])]
    json.dump(res, open(out, "w"))


def archives(tok, model, folder):
    """Three archives with ten questions each: nine facts as drawn, whether the model knows them or not, and the bird."""
    for length, seed in ((1024, 11), (4096, 12), (8192, 13)):
        rng, bird = random.Random(seed), None
        while not bird:
            text, facts, bird = world.archive_text(rng, length - 80 - length // 40)
        ids = [0] + tok.encode(text).ids
        assert len(ids) + 64 <= length
        _, cache = model.run(ids)
        out = []
        for q, words, value in [world.question(rng, f) for f in rng.sample(facts, 9)] + [world.bird_question(rng, bird)]:
            e, rows = ask(tok, (q, words, value), False, True)
            right = {m[0]: grade(model.run(e, cache, torch.tensor(rows).bool(), m)[0], e, rows)[0]
                     for m in MODES if m[0] in ("full", "top-32")}
            out.append({"question": q, "answer": words + value + ".", "right": right})
        name = f"{folder}/archive-{length // 1024}k"
        open(name + ".txt", "w").write(text)
        json.dump({"prompt": "{archive}\n\nQuestion: {question} Answer:", "tokens": len(ids), "questions": out},
                  open(name + ".json", "w"), indent=1)
        print(name, len(ids), "tokens; right", sum(x["right"]["full"] for x in out), "of", len(out))


def golden(tok, model, folder):
    """A plain and a ChatML prompt: ids, logits of the last position (f16 weights, fp32), 32 greedy tokens; awkward strings."""
    text, facts, _ = world.archive_text(random.Random(7), 190)
    (q, words, value), logits_of, cases = world.question(random.Random(7), facts[0]), [], []
    for prompt in (f"{text}\n\nQuestion: {q} Answer:", f"{world.USER}{text}\n\n{q}{world.END}{world.ASSISTANT}"):
        ids = [0] + tok.encode(prompt).ids
        logits, cache = model.run(ids)
        logits_of.append(logits[-1].numpy().astype("<f4"))
        greedy = []
        for _ in range(32):
            greedy.append(int(logits[-1].argmax()))
            logits, cache = model.run(greedy[-1:], cache)
        cases.append({"prompt": prompt, "expected": words + value + ".", "ids": ids, "greedy": greedy,
                      "greedy_text": tok.decode(greedy, skip_special_tokens=False)})
        print(len(ids), "ids;", repr(cases[-1]["greedy_text"]), "expected", words + value)
    np.save(folder + "/logits.npy", np.stack(logits_of))
    json.dump({"plain": cases[0], "chat": cases[1], "strings": [{"text": s, "ids": tok.encode(s).ids} for s in AWKWARD]},
              open(folder + "/golden.json", "w"))


def check(folder, files):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    data, wanted = json.load(open(folder + "/golden.json")), np.load(folder + "/logits.npy")
    for f in files:
        where, name = os.path.split(os.path.abspath(f))
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
        tok = AutoTokenizer.from_pretrained(where, gguf_file=name)
        for case, logits in zip((data["plain"], data["chat"]), wanted):
            ids, greedy = torch.tensor([case["ids"]]), []
            for _ in range(32):
                out = model(ids).logits[0, -1]
                greedy.append(int(out.argmax()))
                if len(greedy) == 1:
                    gap = float((out - torch.tensor(logits)).abs().max())
                ids = torch.cat([ids, out.argmax().view(1, 1)], 1)
            same = sum(x == y for x, y in zip(greedy, case["greedy"]))
            print(name, f"largest logit difference {gap:.2g}, {same} of 32 greedy tokens equal")
        same = [tok.encode(s["text"], add_special_tokens=False) == s["ids"] for s in data["strings"]]
        print(name, sum(same), "of", len(same), "strings have equal ids")


if __name__ == "__main__":
    t, m = Tokenizer.from_file(sys.argv[1]), Llama(sys.argv[2])
    torch.set_grad_enabled(False)
    if sys.argv[3] == "table":
        table(t, m, *map(int, sys.argv[4:8]), sys.argv[8])
    elif sys.argv[3] == "check":
        check(sys.argv[4], sys.argv[5:])
    else:
        os.makedirs(sys.argv[4], exist_ok=True)
        {"archives": archives, "golden": golden}[sys.argv[3]](t, m, sys.argv[4])
