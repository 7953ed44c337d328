/** The dashboard over records alone: its pages, lists of runs, what it refuses, and its forms. */

import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hono } from 'hono';
import { beforeAll, describe, expect, it } from 'vitest';
import { RunCatalog } from '../../../coordinator/dashboard/run-catalog.js';
import { ControlDesk, dashboardApp } from '../../../coordinator/dashboard/serve-dashboard.js';
import { samplesIn } from '../../../coordinator/dashboard/serving-page.js';
import { recordsInBucket } from '../../../coordinator/record/find-records.js';
import { systemClock } from '../../../shared/base/clock.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import { LOG_FOLDER, segmentNameOf } from '../../../shared/events/event-log.js';
import { MetricRegistry } from '../../../shared/metrics/metric-registry.js';
import { serveMetrics } from '../../../shared/metrics/metrics-server.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { RECORD_STARTED_MS, writeRecord } from '../../fixtures/written-record.js';

const MARKUP = '<img src=x onerror=alert(1)>';
const HEADERS = { host: '127.0.0.1:3000' };
const given: string[] = [];
const folder = openedOnce(temporaryFolder);
let nowMs = RECORD_STARTED_MS;

beforeAll(async () => {
  const at = (name: string): string => join(folder.path, name);
  nowMs = await writeRecord(at('whole'), {
    ...{ run: 'whole', outerSteps: 40 },
    more: [
      {
        kind: 'result-refused',
        outerStep: 3,
        jobIndex: 1,
        fromWorker: 'w1',
        rejection: 'not_finite',
      },
      {
        ...{ kind: 'job-finished', jobId: 'j', runId: 'whole', outerStep: 4, jobIndex: 2 },
        ...{ computeMs: 12, residentByteCount: 314_572_800, worker: 'w1' },
      },
      { kind: 'checkpoint', outerStep: 40, address: 'a', digest: 'd1g35t' },
      { kind: 'report-written', address: 'whole/report.html' },
      {
        kind: 'worker-exited',
        pid: 7,
        exitCode: null,
        signal: 'SIGKILL',
        reason: null,
        lastWords: '',
        worker: 'w1',
      },
    ],
  });
  await writeFile(join(at('whole'), 'report.html'), '<script>alert(1)</script>');
  await writeRecord(at('nested/failed'), {
    run: MARKUP,
    outerSteps: 40,
    ended: 3,
    failure: MARKUP,
  });
  await writeRecord(at('open'), { run: 'open', outerSteps: 40, ended: 38, isOpen: true });
  await mkdir(at('empty'));
});

interface AppOptions {
  readonly token?: string;
  readonly control?: boolean;
  readonly hostsAllowed?: readonly string[];
}

function app(options: AppOptions = {}): Hono {
  const clock = { ...systemClock, epochMs: () => nowMs };
  const s3 = { region: 'us-east-1', forcePathStyle: true };
  const catalog = new RunCatalog({ roots: [folder.path], s3, clock });
  const desk =
    options.control === true
      ? new ControlDesk((run) => {
          given.push(run);
          return Promise.resolve('');
        }, 'secret')
      : null;
  const access = { hostsAllowed: options.hostsAllowed ?? [], token: options.token ?? null };
  const nothing = { queue: null, servers: [], rankings: null };
  return dashboardApp({ access, catalog, desk, clock, ...nothing });
}

async function page(path: string): Promise<string> {
  const answer = await app().request(path, { headers: HEADERS });
  expect(answer.status, path).toBe(200);
  return answer.text();
}

describe('pages', () => {
  it('show what the record of a run says', async () => {
    const text = await page('/runs/whole');
    for (const part of [
      '0.5000',
      '40</b><span>of 40 outer steps',
      'd1g35t',
      'results refused: not_finite',
    ])
      expect(text).toContain(part);
    expect(text).toContain('exited, SIGKILL');
    expect(text).toContain('<td>300 MiB</td>');
    expect(text).toContain('<a href="/runs/whole/files/report.html">');
    expect(text.match(/<svg role="img" aria-label=/g)).toHaveLength(3);
    expect(text.match(/<summary>Table<\/summary>/g)).toHaveLength(3);
  });

  it('write texts of a record as texts', async () => {
    for (const path of ['/runs', '/runs/nested:failed']) {
      const text = await page(path);
      expect(text).not.toContain('<img');
      expect(text).toContain('&lt;img src=x');
    }
  });

  it.each(['/nothing', '/runs/nothing', '/runs/..%2Fwhole', '/runs/%E0%A4%A', '/runs/empty'])(
    'answer %s with 404',
    async (path) => {
      expect((await app().request(path, { headers: HEADERS })).status).toBe(404);
    },
  );

  it('show a report in a sandbox, and no other file', async () => {
    const answer = await app().request('/runs/whole/files/report.html', { headers: HEADERS });
    expect(answer.headers.get('content-security-policy')).toMatch(/^sandbox; default-src 'none'/);
    for (const name of ['events%2Fevents-000001.ndjson', '..%2Freport.html', 'other.html'])
      expect((await app().request(`/runs/whole/files/${name}`, { headers: HEADERS })).status).toBe(
        404,
      );
  });
});

describe('what is refused', () => {
  it.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('%s, with 405', async (method) => {
    for (const path of ['/', '/runs/whole', '/cancel']) {
      const answer = await app().request(path, { method, headers: HEADERS });
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    }
    expect((await app({ control: true }).request('/', { method, headers: HEADERS })).status).toBe(
      405,
    );
  });

  it('a foreign Host, with 403', async () => {
    const headers = { host: 'evil.example' };
    for (const path of ['/', '/metrics', '/assets/style.css'])
      expect((await app().request(path, { headers })).status).toBe(403);
  });

  it.each([
    ['10.0.0.5:3000', '10.0.0.5'],
    ['Board.internal:80', 'board.internal'],
    ['[fd00::1]:3000', 'fd00::1'],
    ['fd00::1', 'fd00::1'],
    ['[fd00::1]', 'fd00::1'],
  ])(
    'a request as %s, and takes it once %s is allowed, as the refusal says',
    async (host, name) => {
      const before = await app().request('/', { headers: { host } });
      expect(before.status).toBe(403);
      const said = await before.text();
      expect(said).toContain(`does not answer as "${name}":`);
      expect(said).not.toContain('token');
      for (const allowed of [name, host]) {
        const answer = await app({ hostsAllowed: [allowed] }).request('/', { headers: { host } });
        expect(answer.status, allowed).toBe(200);
      }
      const other = await app({ hostsAllowed: [`${name}0`] }).request('/', { headers: { host } });
      expect(other.status).toBe(403);
    },
  );

  it('metrics under any name without the token, and nothing but metrics with it', async () => {
    const token = 'abcdefghijklmnop';
    const asked = async (path: string, given: string, method = 'GET'): Promise<Response> => {
      const headers = { host: '10.0.0.5:3000', authorization: `Bearer ${given}` };
      return app({ token }).request(path, { method, headers });
    };
    // This dashboard has no queue, and so no metrics.
    expect((await asked('/metrics', token)).status).toBe(404);
    expect((await asked('/metrics', token, 'POST')).status).toBe(405);
    const refused = await asked('/metrics', 'other');
    expect(refused.status).toBe(403);
    expect(await refused.text()).toContain('to a request with its token it answers here');
    for (const path of ['/', '/metrics/more', '/assets/style.css'])
      expect((await asked(path, token)).status, path).toBe(403);
  });

  it('a request without the token, with 401', async () => {
    const token = 'abcdefghijklmnop';
    const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
    const statusWith = async (authorization?: string): Promise<number> => {
      const headers = { ...HEADERS, ...(authorization === undefined ? {} : { authorization }) };
      return (await app({ token }).request('/', { headers })).status;
    };
    expect(await statusWith()).toBe(401);
    expect(await statusWith('Bearer abcdefghijklmnoq')).toBe(401);
    expect(await statusWith(basic('anybody:other'))).toBe(401);
    expect(await statusWith(`Bearer ${token}`)).toBe(200);
    expect(await statusWith(basic(`anybody:${token}`))).toBe(200);
  });
});

describe('forms', () => {
  const own = 'http://127.0.0.1:3000';
  const posted = async (fields: Record<string, string>, origin: string | null = own) => {
    const headers = { ...HEADERS, ...(origin === null ? {} : { origin }) };
    const body = new URLSearchParams(fields);
    const answer = await app({ control: true }).request('/cancel', {
      method: 'POST',
      headers,
      body,
    });
    return [answer.status, answer.headers.get('location')];
  };
  const fields = { run: 'open', csrf: 'secret', back: '/runs/open' };

  it('cancel a run, and lead back to their page', async () => {
    const text = await (
      await app({ control: true }).request('/runs/open', { headers: HEADERS })
    ).text();
    expect(text).toContain('<form class="orders" method="post" action="/cancel">');
    expect(text).toContain('name="csrf" value="secret"');
    expect(await posted(fields)).toEqual([303, '/runs/open']);
    expect(given).toEqual(['open']);
  });

  it('are not shown for a run that has ended, nor without control', async () => {
    const ended = await app({ control: true }).request('/runs/whole', { headers: HEADERS });
    expect(await ended.text()).not.toContain('action="/cancel"');
    expect(await page('/runs/open')).not.toContain('action="/cancel"');
  });

  it.each([
    ['another token', { ...fields, csrf: 'other' }, own, 403],
    ['another origin', fields, 'http://evil.example', 403],
    ['no origin', fields, null, 403],
    ['a field too many', { ...fields, also: '1' }, own, 400],
    ['a long body', { ...fields, back: 'x'.repeat(5_000) }, own, 413],
  ] as const)('are refused with %s', async (_, sent, origin, status) => {
    given.length = 0;
    expect(await posted({ ...sent }, origin)).toEqual([status, null]);
    expect(given).toEqual([]);
  });

  it.each(['//evil.example', 'http://evil.example', '/\\evil.example', 'javascript:alert(1)'])(
    'do not lead to %s',
    async (back) => {
      expect(await posted({ ...fields, back })).toEqual([303, '/']);
    },
  );
});

const registry = new MetricRegistry('server');
const place = { host: '127.0.0.1', port: 0 };
const server = openedOnce(() => serveMetrics({ snapshot: () => registry.snapshot() }, place));

it('reads metrics as they were written, with labels of any text', async () => {
  const reason = 'a "quoted", \\n and\nbroken } text';
  registry.add('qianmo_requests_refused_total', { reason }, 3);
  registry.observe('qianmo_request_seconds', { route: 'rank' }, 0.002);
  const samples = samplesIn(await (await fetch(`${server.url}/metrics`)).text());
  const refused = { name: 'qianmo_requests_refused_total', labels: { reason }, value: 3 };
  expect(samples).toContainEqual(refused);
  const bucket = { name: 'qianmo_request_seconds_bucket', value: 1 };
  expect(samples).toContainEqual({ ...bucket, labels: { route: 'rank', le: '0.0025' } });
  expect(samples).toContainEqual({ ...bucket, labels: { route: 'rank', le: '+Inf' } });
  expect(() => samplesIn('name 1\n<html>\n')).toThrow('line 2 is no metric');
});

/** Lines of an evaluation behind the training: about 1.1 MB. */
const PROGRESS_COUNT = 12_000;

function progressLines(from: number): string {
  const lines = Array.from({ length: PROGRESS_COUNT }, (_, index) =>
    encodeEvent({
      ...{ kind: 'progress', stage: 'adgroups', done: from + index, total: 100_000 },
      ...{ runId: 'long', epochMs: RECORD_STARTED_MS + 60_000 + index },
    }),
  );
  return `${lines.join('\n')}\n`;
}

it('finds a training that lies before a megabyte of other events, and keeps it', async () => {
  const output = join(folder.path, 'long');
  await writeRecord(output, { run: 'long', outerSteps: 40 });
  const log = join(output, LOG_FOLDER, segmentNameOf(1));
  await appendFile(log, progressLines(0));
  let monotonicMs = 0;
  const clock = { ...systemClock, monotonicMs: () => (monotonicMs += 10_000) };
  const s3 = { region: 'us-east-1', forcePathStyle: true };
  const catalog = new RunCatalog({ roots: [folder.path], s3, clock });
  for (const from of [0, PROGRESS_COUNT]) {
    if (from > 0) await appendFile(log, progressLines(from));
    const { runs } = await catalog.runs();
    const [listed] = runs;
    expect(listed?.status.training).toMatchObject({
      outerStep: 40,
      outerSteps: 40,
    });
    expect(listed?.status.run).toBe('long');
    expect(listed?.status.stage?.done).toBe(from + PROGRESS_COUNT - 1);
  }
});

it('shows the run that took the place of another in its output, on its page and in the list', async () => {
  const output = join(folder.path, 'again');
  let monotonicMs = 0;
  const clock = { ...systemClock, monotonicMs: () => (monotonicMs += 10_000) };
  const s3 = { region: 'us-east-1', forcePathStyle: true };
  const catalog = new RunCatalog({ roots: [output], s3, clock });
  for (const outerSteps of [40, 7]) {
    await rm(output, { recursive: true, force: true });
    await writeRecord(output, { run: 'again', outerSteps });
    const { runs } = await catalog.runs();
    expect(runs[0]?.status.training).toMatchObject({ outerStep: outerSteps, outerSteps });
    const opened = await catalog.open('again');
    expect(opened?.history.course.points('queryLoss').at(-1)?.x).toBe(outerSteps);
    expect(opened?.status.training?.outerStep).toBe(outerSteps);
  }
});

it('looks at a bounded number of objects of a bucket, and says so', async () => {
  const store = new MemoryObjectStore();
  for (const key of ['a/events/events-000001.ndjson', 'a/z', 'b/c/events/events-000002.ndjson'])
    await store.put(key, new Uint8Array(1), { kind: 'always' });
  expect(await recordsInBucket(store, 4)).toEqual({ paths: ['a', 'b/c'], isCut: false });
  expect(await recordsInBucket(store, 2)).toEqual({ paths: ['a'], isCut: true });
});
