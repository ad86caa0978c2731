"""PyTorch's attention for one new token a sequence over f16 keys and values, at the shapes of the sweep: what `full` is held against
on the same device. Writes pytorch.json and pytorch.md into the folder named.

Usage: python3 attention.py FOLDER
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

Q_HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
CONTEXTS = (1024, 4096, 16384, 65536, 262144)
BATCHES = (1, 8, 64)
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def seconds_per_call(call):
    call()
    torch.cuda.synchronize()
    rounds, n = [], 1
    while len(rounds) < 5:
        begin = time.perf_counter()
        for _ in range(n):
            call()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        if seconds < 0.05 and n < 1 << 16:
            n *= 2
        else:
            rounds.append(seconds / n)
    return statistics.median(rounds)


def measure(context, batch):
    """The quickest backend that takes the shape, or why there is none."""
    n_bytes = 2 * batch * KV_HEADS * context * HEAD_DIM * 2
    if n_bytes > 0.8 * torch.cuda.mem_get_info()[0]:
        return {"left_out": f"{n_bytes / 1e9:.0f} GB of keys and values do not fit"}
    k, v = (torch.randn(batch, KV_HEADS, context, HEAD_DIM, dtype=torch.float16, device="cuda") for _ in range(2))
    q = torch.randn(batch, Q_HEADS, 1, HEAD_DIM, dtype=torch.float16, device="cuda")
    best = None
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                seconds = seconds_per_call(lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
        except RuntimeError:
            continue  # this backend does not take the shape
        if best is None or seconds < best[1]:
            best = (name, seconds)
    if best is None:
        return {"left_out": "no backend takes the shape"}
    return {"backend": best[0], "us": best[1] * 1e6, "gb_per_s": n_bytes / best[1] / 1e9}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device on this machine.")
    results = []
    for context in CONTEXTS:
        for batch in BATCHES:
            results.append({"context": context, "batch": batch, **measure(context, batch)})
            print(results[-1], flush=True)
            torch.cuda.empty_cache()
    with open(f"{sys.argv[1]}/pytorch.json", "w", encoding="utf-8") as out:
        json.dump({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "results": results}, out, indent=1)
    with open(f"{sys.argv[1]}/pytorch.md", "w", encoding="utf-8") as out:
        out.write(f"\nPyTorch {torch.__version__}, scaled_dot_product_attention, one token a sequence\n\n")
        out.write("| context | batch | backend | us | GB/s |\n| ---: | ---: | --- | ---: | ---: |\n")
        for row in results:
            shown = (row["backend"], f"{row['us']:.4g}", f"{row['gb_per_s']:.4g}") if "us" in row else (row["left_out"], "-", "-")
            out.write(f"| {row['context']} | {row['batch']} | {' | '.join(shown)} |\n")


if __name__ == "__main__":
    main()
