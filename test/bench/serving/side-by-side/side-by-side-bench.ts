/**
 * The ranking server beside what a company would build in its place, over HTTP, on the same requests: the same bundle in onnxruntime-node and
 * as a SavedModel in Python TensorFlow, each behind a bare server of one thread, and one shared model without personal heads.
 * Every server is first asked the same requests, and its values must be those of the others. Then each is saturated, and all get
 * one rate, half of what the slowest bears. Writes `infra/results/serving-side-by-side.json` and `.md`.
 *
 *   npm run bench:side-by-side
 *   npm run bench:side-by-side -- --adgroups 1000 --seconds 1 --rounds 1 --output /tmp/
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at, median } from '../../../../shared/base/arrays.js';
import { readAnyBundle } from '../../../../shared/bundle/delta/read-any-bundle.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { modelGraphOf } from '../../../../worker/serving/interchange/model-graph.js';
import {
  writeOnnxModel,
  writeSavedModel,
} from '../../../../worker/serving/interchange/written-model.js';
import { binaryAnswer } from '../../../fixtures/serving/binary-request.js';
import { benchHeader } from '../../bench-header.js';
import { ONNX_RUNTIME_NAME, tensorflowPython } from '../interchange/runtimes.js';
import { CANDIDATE_COUNT, CANDIDATE_ROWS, CONTEXT_ROWS } from '../kernel-setting.js';
import { BenchSides, saturated, type Saturated } from '../server/bench-sides.js';
import { loadOptions } from '../server/load-options.js';
import { openLoop, wireRequest } from '../server/load.js';
import {
  requestsIn,
  writeServedBundle,
  type BenchRequest,
  type RequestForm,
} from '../server/server-setting.js';
import { peerValues } from '../server/peer-body.js';
import { ROWS, sideBySidePage, type Row, type SideBySideRecord } from './side-by-side-page.js';

const REQUESTS = 100;
/** Requests whose values are compared. */
const COMPARED = 5;
const DIFFERENCE_MAX = 1e-5;
const CONNECTIONS = 16;
const OPEN_CONNECTIONS = 64;

const { rounds, seconds, adgroupCount, output } = loadOptions(import.meta.url, 4);

const ReadySchema = z.object({ url: z.url(), version: z.string().optional() });

interface Server {
  readonly pid: number;
  readonly url: string;
  readonly form: RequestForm;
  readonly requests: readonly BenchRequest[];
  readonly wire: readonly Buffer[];
  readonly version: string;
}

const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = mkdtempSync(join(tmpdir(), 'qianmo-side-by-side-'));
const sides = new BenchSides();
try {
  const servers = await started();
  const differences = await comparedValues(servers);
  const saturations = collected<Saturated>();
  for (let round = 0; round < rounds; round += 1)
    for (const row of ROWS) {
      const { url, wire, pid } = servers[row];
      const load = { url, requests: wire, seconds, connectionCount: CONNECTIONS };
      const found = await saturated(pid, load);
      saturations[row].push(found);
      console.log(`${row}: ${Math.round(found.perSecond)} a second`);
    }
  const slowest = Math.min(
    ...ROWS.map((row) => median(saturations[row].map(({ perSecond }) => perSecond))),
  );
  const rate = Math.floor(slowest / 2);
  const latencies = collected<{ readonly p50Ms: number; readonly p99Ms: number }>();
  for (let round = 0; round < rounds; round += 1)
    for (const row of ROWS) {
      const { url, wire } = servers[row];
      const load = { url, requests: wire, seconds, connectionCount: OPEN_CONNECTIONS };
      const { latenciesMs: found } = await openLoop(load, rate);
      const quantile = (share: number): number =>
        at(found, Math.min(found.length - 1, Math.floor(share * found.length)));
      latencies[row].push({ p50Ms: quantile(0.5), p99Ms: quantile(0.99) });
    }
  const record: SideBySideRecord = {
    ...{ ...header, rounds, seconds, adgroupCount, rate, saturations, latencies, differences },
    tensorflow: servers.tensorflow.version,
    onnx: ONNX_RUNTIME_NAME,
  };
  mkdirSync(output, { recursive: true });
  const page = sideBySidePage(record);
  writeFileSync(join(output, 'serving-side-by-side.json'), `${JSON.stringify(record)}\n`);
  writeFileSync(join(output, 'serving-side-by-side.md'), page);
  console.log(page);
} finally {
  sides.stop();
  rmSync(folder, { recursive: true, force: true });
}

function collected<Found>(): Record<Row, Found[]> {
  return { binary: [], columns: [], objects: [], shared: [], onnx: [], tensorflow: [] };
}

async function started(): Promise<Record<Row, Server>> {
  const personal = join(folder, 'personal');
  const shared = join(folder, 'shared');
  const store = new FileObjectStore({ folder: personal });
  const digest = await writeServedBundle(store, adgroupCount);
  const sharedStore = new FileObjectStore({ folder: shared });
  const sharedDigest = await writeServedBundle(sharedStore, adgroupCount, {
    personal: 'embedding',
  });
  const converted = { onnx: join(folder, 'onnx'), saved: join(folder, 'saved') };
  for (const each of Object.values(converted)) mkdirSync(each);
  const graph = modelGraphOf(await readAnyBundle(store, digest));
  await writeOnnxModel(graph, converted.onnx, {});
  await writeSavedModel(graph, converted.saved);
  const ours = await sides.node('../server/server-side.js', import.meta.url, [personal, digest]);
  const ofShared = await sides.node('../server/server-side.js', import.meta.url, [
    ...[shared, sharedDigest],
  ]);
  const onnx = await sides.node('onnx-side.js', import.meta.url, [converted.onnx]);
  const script = new URL('test/bench/serving/side-by-side/saved_model_server.py', packageRoot);
  const counts = [CANDIDATE_COUNT, CONTEXT_ROWS.length, CANDIDATE_ROWS.length].map(String);
  const words = [script.pathname, converted.saved, ...counts];
  const tensorflow = await sides.start(tensorflowPython(), words);
  const serverOf = (side: typeof ours, form: RequestForm, of = digest): Server => {
    const { url, version = '' } = ReadySchema.parse(side.ready);
    const requests = requestsIn(form, REQUESTS, { adgroupCount, digest: of });
    const wire = requests.map((each) => wireRequest(each, new URL(url).host));
    return { pid: side.pid, url, form, requests, wire, version };
  };
  return {
    binary: serverOf(ours, 'binary'),
    columns: serverOf(ours, 'columns'),
    objects: serverOf(ours, 'objects'),
    shared: serverOf(ofShared, 'binary', sharedDigest),
    onnx: serverOf(onnx, 'numbers'),
    tensorflow: serverOf(tensorflow, 'numbers'),
  };
}

/** The largest difference of a value from that of the binary form, relative beyond 1. The shared model has other values. */
async function comparedValues(
  servers: Record<Row, Server>,
): Promise<SideBySideRecord['differences']> {
  const differences: Record<string, number> = {};
  for (const row of ROWS) {
    if (row === 'shared') continue;
    let largest = 0;
    for (let place = 0; place < COMPARED; place += 1) {
      const expected = await valuesOf(servers.binary, place);
      for (const [candidate, value] of (await valuesOf(servers[row], place)).entries()) {
        const wanted = at(expected, candidate);
        largest = Math.max(largest, Math.abs(value - wanted) / Math.max(1, Math.abs(wanted)));
      }
    }
    if (!(largest <= DIFFERENCE_MAX)) throw new Error(`${row} has other values, by ${largest}`);
    differences[row] = largest;
  }
  return differences;
}

async function valuesOf({ url, form, requests }: Server, place: number): Promise<number[]> {
  const { mediaType, body } = at(requests, place);
  const answer = await fetch(`${url}/v1/rank`, {
    ...{ method: 'POST', headers: { 'content-type': mediaType }, body },
  });
  if (answer.status !== 200) throw new Error(`${form}: ${await answer.text()}`);
  const content = new Uint8Array(await answer.arrayBuffer());
  if (form === 'numbers') return [...peerValues(content)];
  const found: unknown =
    form === 'binary' ? binaryAnswer(content) : JSON.parse(Buffer.from(content).toString());
  return z.object({ values: z.array(z.number()) }).parse(found).values;
}
