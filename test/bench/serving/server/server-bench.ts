/**
 * The ranking server in one process beside its bare kernel: saturation, then an open loop at half of it,
 * in interleaved rounds. Writes `infra/results/serving-server.json` and `.md`.
 *
 *   npm run bench:server -- --rounds 3 --adgroups 1000000 --seconds 10
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at } from '../../../../shared/base/arrays.js';
import { benchHeader } from '../../bench-header.js';
import { openLoop, saturation, wireRequest } from './load.js';
import { serverPage, type FormRound, type ServerRecord } from './server-page.js';
import { FORMS, requestsIn, type Form } from './server-setting.js';

const REQUESTS = 200;
const CONNECTIONS = 16;
/** Of an open loop; more requests than that are late anyway. */
const OPEN_CONNECTIONS = 64;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    adgroups: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '10' },
    output: { type: 'string', default: new URL('infra/results/', packageRoot).pathname },
  },
});
const rounds = z.coerce.number().int().positive().max(100).parse(options.rounds);
const seconds = z.coerce.number().positive().max(600).parse(options.seconds);
const adgroupCount = z.coerce.number().int().min(1000).max(4_000_000).parse(options.adgroups);

const ReadySchema = z.strictObject({
  url: z.url(),
  kernel: z.strictObject({ medianUs: z.number(), leastUs: z.number(), cpuUs: z.number() }),
});

const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const side = fileURLToPath(new URL('server-side.js', import.meta.url));
const server = spawn(process.execPath, [side, String(adgroupCount)], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  const [line] = (await once(createInterface(server.stdout), 'line')) as [string];
  const { url, kernel } = ReadySchema.parse(JSON.parse(line));
  const { host } = new URL(url);
  const byForm = new Map(
    FORMS.map((form) => {
      const requests = requestsIn(form, REQUESTS, adgroupCount);
      return [form, requests.map((request) => wireRequest(request, host))] as const;
    }),
  );
  const measured: Record<Form, FormRound[]> = {
    ...{ binary: [], 'binary texts': [], columns: [], objects: [] },
  };
  for (let round = 0; round < rounds; round += 1)
    for (const [form, requests] of byForm) {
      const load = { url, requests, seconds, connectionCount: CONNECTIONS };
      // The first second warms up.
      await saturation({ ...load, seconds: 1 });
      const perSecond = await saturation(load);
      const open = { ...load, connectionCount: OPEN_CONNECTIONS };
      const latencies = await openLoop(open, perSecond / 2);
      const quantile = (share: number): number =>
        at(latencies, Math.min(latencies.length - 1, Math.floor(share * latencies.length)));
      measured[form].push({
        ...{ perSecond, p50Ms: quantile(0.5), p99Ms: quantile(0.99), p999Ms: quantile(0.999) },
        requestByteCount: at(requests, 0).length,
      });
      console.log(`round ${round + 1} of ${rounds}: ${form}, ${Math.round(perSecond)} a second`);
    }
  const record: ServerRecord = { ...header, rounds, seconds, adgroupCount, kernel, measured };
  mkdirSync(options.output, { recursive: true });
  const page = serverPage(record);
  writeFileSync(join(options.output, 'serving-server.json'), `${JSON.stringify(record)}\n`);
  writeFileSync(join(options.output, 'serving-server.md'), page);
  console.log(page);
} finally {
  server.kill();
}
