"""A bare HTTP server that ranks by a SavedModel in Python TensorFlow, on one thread; bodies as `peer-body.ts` has them.

    python saved_model_server.py MODEL_FOLDER CANDIDATES CONTEXT_FEATURES CANDIDATE_FEATURES
"""

import asyncio
import json
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

folder, count, contexts, features = sys.argv[1], *map(int, sys.argv[2:5])
model = tf.saved_model.load(folder)
signature = model.signatures["serving_default"]
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def ranked(body):
    words = np.frombuffer(body, dtype=np.int32, count=contexts + (1 + features) * count)
    columns = words[contexts:].reshape(1 + features, count)
    bids = np.frombuffer(body, dtype=np.float64, offset=4 * len(words), count=count)
    feeds = {f"context{place}": np.full(count, words[place], np.int32) for place in range(contexts)}
    feeds.update({f"candidate{place}": columns[1 + place] for place in range(features)})
    outputs = signature(adgroup_index=tf.constant(columns[0]), **{k: tf.constant(v) for k, v in feeds.items()})
    values = outputs["expected"].numpy().astype(np.float64) * bids
    order = np.argsort(-values, kind="stable").astype(np.int32)
    return values.tobytes() + order.tobytes()


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = bytearray()

    def data_received(self, data):
        self.received += data
        while True:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            whole = end + 4 + int(LENGTH.search(self.received, 0, end)[1])
            if len(self.received) < whole:
                return
            content = ranked(bytes(self.received[end + 4 : whole]))
            del self.received[:whole]
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
            self.transport.write(head.encode() + content)


async def serve():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}", "version": tf.__version__}), flush=True)
    await server.serve_forever()


asyncio.run(serve())
