/**
 * The ranking server in one process beside its bare kernel and a bare server of HTTP: saturation, then an open loop
 * at half of it, in interleaved rounds; and how long servers of the bundle take to be ready, and their memory. Writes `infra/results/serving-server.json` and `.md`.
 *
 *   npm run bench -- serving server --rounds 3 --adgroups 1000000 --seconds 10
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at } from '../../../../shared/base/arrays.js';
import { moveLabel } from '../../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { benchHeader } from '../../bench-header.js';
import { BenchSides, keepClientApart, saturated } from './bench-sides.js';
import { benchOptions } from '../../options/bench-options.js';
import { amount, text, wholeNumber } from '../../options/option-values.js';
import { openLoop, wireRequest } from './load.js';
import { serverPage, type FormRound, type MeasuredRow, type ServerRecord } from './server-page.js';
import type { SideTimes } from '../kernel-measures.js';
import { FORMS, requestsIn, writeServedBundle, type Form } from './server-setting.js';
import { startedServer, type StartedServer } from './started-servers.js';

const REQUESTS = 200;
const CONNECTIONS = 16;
/** Of an open loop; more requests than that are late anyway. */
const OPEN_CONNECTIONS = 64;

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(1, 100),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundle',
  },
  seconds: {
    value: amount(600),
    default: '10',
    about: 'seconds of each load',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rounds, seconds, adgroups: adgroupCount, output } = options;

const ReadySchema = z.strictObject({
  url: z.url(),
  kernelUrl: z.url(),
  blocksMiB: z.number(),
});
const KernelSchema = z.strictObject({
  ...{ medianUs: z.number(), leastUs: z.number(), cpuUs: z.number() },
});
const ControlReadySchema = z.strictObject({ url: z.url() });

const STARTS = 3;

const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = mkdtempSync(join(tmpdir(), 'qianmo-server-'));
const areApart = keepClientApart();
const sides = new BenchSides(areApart);

interface Measured {
  readonly url: string;
  readonly pid: number;
  readonly requests: readonly Buffer[];
}

/** @param ratePerSecond of the open loop; half of saturation if absent. */
async function measuredRound(
  { url, pid, requests }: Measured,
  ratePerSecond?: number,
): Promise<FormRound> {
  const load = { url, requests, seconds, connectionCount: CONNECTIONS };
  const { perSecond, cpuUs } = await saturated(pid, load);
  const openPerSecond = ratePerSecond ?? perSecond / 2;
  const open = { ...load, connectionCount: OPEN_CONNECTIONS };
  const { latenciesMs: latencies, stillMs } = await openLoop(open, openPerSecond);
  const quantile = (share: number): number =>
    at(latencies, Math.min(latencies.length - 1, Math.floor(share * latencies.length)));
  return {
    ...{ perSecond, openPerSecond, cpuUs },
    ...{ p50Ms: quantile(0.5), p99Ms: quantile(0.99), p999Ms: quantile(0.999) },
    ...{ requestByteCount: at(requests, 0).length, stillMs },
  };
}

try {
  const store = new FileObjectStore({ folder });
  const digest = await writeServedBundle(store, adgroupCount);
  await moveLabel(store, 'latest', digest);
  const starts: StartedServer[] = [];
  for (let start = 0; start < STARTS; start += 1) {
    starts.push(await startedServer(folder, 1));
    for (const processes of [2, 3]) starts.push(await startedServer(folder, processes));
  }
  const serverSide = await sides.node('server-side.js', import.meta.url, [folder, digest]);
  const controlSide = await sides.node('control-side.js', import.meta.url, []);
  const server = ReadySchema.parse(serverSide.ready);
  const control = ControlReadySchema.parse(controlSide.ready);
  const requestsOf = (form: Form, url: string, path?: string): readonly Buffer[] =>
    requestsIn(form, REQUESTS, { adgroupCount, digest }).map((each) =>
      wireRequest(each, new URL(url).host, path),
    );
  const ofServer = (form: Form): Measured => ({
    ...{ url: server.url, pid: serverSide.pid, requests: requestsOf(form, server.url) },
  });
  const ofControl = (form: Form, path = '/'): Measured => ({
    ...{ url: control.url, pid: controlSide.pid, requests: requestsOf(form, control.url, path) },
  });
  const controls = { binary: ofControl('binary'), columns: ofControl('columns') };
  const byForm = FORMS.map((form) => [form, ofServer(form)] as const);
  const kernel: SideTimes[] = [];
  const measured: Record<MeasuredRow, FormRound[]> = {
    ...{ 'binary, bare': [], 'binary, busy': [], binary: [], 'binary texts': [] },
    ...{ 'columns, bare': [], 'columns, busy': [], columns: [], objects: [] },
  };
  for (let round = 0; round < rounds; round += 1) {
    kernel.push(KernelSchema.parse(await (await fetch(server.kernelUrl)).json()));
    for (const [form, of] of byForm) {
      const found = await measuredRound(of);
      measured[form].push(found);
      if (form === 'binary' || form === 'columns') {
        const bare = await measuredRound(controls[form], found.openPerSecond);
        const busyUs = Math.max(0, Math.round(found.cpuUs - bare.cpuUs));
        const busy = ofControl(form, `/busy/${busyUs}`);
        measured[`${form}, bare`].push(bare);
        measured[`${form}, busy`].push(await measuredRound(busy, found.openPerSecond));
      }
      console.log(
        `round ${round + 1} of ${rounds}: ${form}, ${Math.round(found.perSecond)} a second`,
      );
    }
  }
  const { blocksMiB } = server;
  const record: ServerRecord = {
    ...{ ...header, areApart, rounds, seconds, adgroupCount, kernel, blocksMiB, starts, measured },
  };
  mkdirSync(output, { recursive: true });
  const page = serverPage(record);
  writeFileSync(join(output, 'serving-server.json'), `${JSON.stringify(record)}\n`);
  writeFileSync(join(output, 'serving-server.md'), page);
  console.log(page);
} finally {
  sides.stop();
  rmSync(folder, { recursive: true, force: true });
}
