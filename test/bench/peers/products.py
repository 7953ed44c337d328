"""Matrix products alone: the peak to which inner loops are compared.

    python products.py '{"threadCount": 1, "products": [[1, 1024, 1024, 1024], ...]}'

Each product is [batchCount, rows, inner, columns]. Writes a JSON line: GFLOPS of the median.
"""

import json
import statistics
import time

import torch

from side import arguments

SECONDS_PER_PRODUCT = 0.5


def main():
    given = arguments()
    torch.set_num_threads(given["threadCount"])
    found = []
    for batch_count, rows, inner, columns in given["products"]:
        lead = () if batch_count == 1 else (batch_count,)
        left, right = torch.rand(*lead, rows, inner), torch.rand(*lead, inner, columns)
        out = torch.empty(*lead, rows, columns)
        torch.matmul(left, right, out=out)
        times = []
        end = time.perf_counter() + SECONDS_PER_PRODUCT
        while time.perf_counter() < end:
            before = time.perf_counter()
            torch.matmul(left, right, out=out)
            times.append(time.perf_counter() - before)
        flops = 2 * batch_count * rows * inner * columns
        found.append({"gflops": flops / statistics.median(times) / 1e9, "gflopsMax": flops / min(times) / 1e9})
    print(json.dumps({"torch": torch.__version__, "products": found}), flush=True)


main()
