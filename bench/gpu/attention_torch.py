#!/usr/bin/env python3
"""attention_torch.py CSV [SECONDS] - PyTorch's attention on the shapes that bench/gpu/attention measured.

Decode of one token, f16 and bf16, K and V in one piece each (no pages): scaled_dot_product_attention by
every backend that takes the shape ("math" only where no other does), for one sequence FlashInfer too where it
can be imported; the best of them beside ours. Medians by CUDA events; sets of K and V of 320 MB at least
take turns. Uniform batches only. Writes CSV with .torch.csv for its end; a row that was not measured has no time
there, and the reason in the place of the backend: "no time", "no memory", "no backend".
"""
import csv
import statistics
import sys
import time

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError:
    sys.exit("attention_torch.py: no PyTorch here")
try:
    import flashinfer
except ImportError:
    flashinfer = None

LEAST_BYTES, TURN_BYTES = 320 << 20, 2 << 30
TYPES = {"f16": torch.float16, "bf16": torch.bfloat16}
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def measure(function, n_sets, n_bytes, rounds=5):
    """Microseconds of one call; a round is as many turns of all sets as ours, recorded in a graph where possible."""
    n_turns = max(1, TURN_BYTES // (n_sets * n_bytes))
    for i in range(n_sets):
        function(i)
    torch.cuda.synchronize()
    replay = None
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for i in range(n_sets * n_turns):
                function(i % n_sets)
        replay = graph.replay
    except Exception:  # some backends cannot be captured
        torch.cuda.synchronize()
    if replay is None:

        def replay():
            for i in range(n_sets * n_turns):
                function(i % n_sets)

    times = []
    for _ in range(rounds + 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[1:]) / (n_sets * n_turns) * 1e3


def candidates(q, k, v):
    """The one that widens everything comes last: it is never the best."""
    group = q.shape[1] > k[0].shape[1]

    def torch_by(backend):
        def call(i):
            with sdpa_kernel(backend):
                return torch.nn.functional.scaled_dot_product_attention(
                    q, k[i], v[i], enable_gqa=group
                )

        return call

    for name, backend in BACKENDS.items():
        yield name, torch_by(backend)
    if flashinfer is not None and q.shape[0] == 1:
        one = q[0, :, 0]
        yield "flashinfer", lambda i: flashinfer.single_decode_with_kv_cache(
            one, k[i][0], v[i][0], kv_layout="HND", use_tensor_cores=True
        )
    yield "math", torch_by(SDPBackend.MATH)


def best_of(row):
    """(microseconds, by what), or (None, why not)"""
    dtype, dim = TYPES[row["type"]], int(row["head_dim"])
    heads, kv_heads = int(row["heads"]), int(row["kv_heads"])
    batch, context = int(row["batch"]), int(row["context"])
    n_bytes = 4 * batch * kv_heads * context * dim
    n_sets = -(-LEAST_BYTES // n_bytes)
    if n_sets * n_bytes > 60 << 30:
        return None, "no memory"
    shape = (batch, kv_heads, context, dim)
    q = torch.randn(batch, heads, 1, dim, dtype=dtype, device="cuda")
    k = [torch.empty(shape, dtype=dtype, device="cuda").uniform_(-1, 1) for _ in range(n_sets)]
    v = [torch.empty(shape, dtype=dtype, device="cuda").uniform_(-1, 1) for _ in range(n_sets)]
    best = None, "no backend"
    for name, call in candidates(q, k, v):
        # Those that widen K and V to all heads first need room for that, and are never the best.
        if name in ("math", "efficient") and n_bytes * heads // kv_heads > 16 << 30:
            continue
        if name == "math" and best[0] is not None:
            continue
        try:
            us = measure(call, n_sets, n_bytes)
        except Exception:
            torch.cuda.synchronize()
            continue
        if best[0] is None or us < best[0]:
            best = us, name
    return best


def main():
    path, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 90.0
    end = time.monotonic() + seconds
    with open(path, newline="") as file:
        rows = [
            r
            for r in csv.DictReader(file)
            if r["kind"] == "decode" and r["type"] in TYPES and r["name"] != "ragged"
        ]
    print(f"# PyTorch {torch.__version__}, FlashInfer {getattr(flashinfer, '__version__', 'none')}")
    print("type   dim heads  seq  context       ours      best  by         ratio")
    with open(path + ".torch.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow("type head_dim heads kv_heads batch context us torch_us backend".split())
        for row in rows:
            try:
                best = (None, "no time") if time.monotonic() > end else best_of(row)
            except torch.cuda.OutOfMemoryError:
                best = None, "no memory"
            torch.cuda.empty_cache()
            us = float(row["us"])
            names = ("type", "head_dim", "heads", "kv_heads", "batch", "context")
            measured = "" if best[0] is None else f"{best[0]:.2f}"
            out.writerow([row[n] for n in names] + [us, measured, best[1]])
            file.flush()
            print(
                f"{row['type']:<5} {row['head_dim']:>4} {row['heads']:>3}/{row['kv_heads']:<2} "
                f"{row['batch']:>3} {row['name']:>8} {us:10.1f} "
                + (f"{best[0]:9.1f}  {best[1]:<10} {best[0] / us:5.2f}" if measured else best[1]),
                flush=True,
            )


main()
