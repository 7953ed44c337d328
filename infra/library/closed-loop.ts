/**
 * The closed loop on the demo's data: earlier ratings train a run and are exported, later ones come to a server
 * as requests and feedback, and then refresh what it serves.
 */

import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import type { CallOptions } from '../../coordinator/runs/run-handle.js';
import { at } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { randomStream } from '../../shared/base/random.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { yamlOf } from '../../shared/config/yaml-file.js';
import {
  exportRun,
  openRun,
  prepare,
  refresh,
  serveRankings,
  type RankingService,
} from './index.js';
import { RankingClient, type Candidate, type ColumnValue, type FeedbackEvent } from './client.js';
import { demoConfig } from './demo.js';

type Rating = Readonly<Record<string, string>>;

/** The ratings of the demo's log, by column, in order of the log. */
async function readRatings(path: string): Promise<Rating[]> {
  const text = gunzipSync(await readFile(path)).toString('utf8');
  const [head = '', ...lines] = text.trimEnd().split('\n');
  const columns = fieldsOf(head);
  return lines.map((line) => {
    const fields = fieldsOf(line);
    return Object.fromEntries(columns.map((column, place) => [column, at(fields, place)]));
  });
}

/** The fields of a line of CSV without line breaks in fields. */
function fieldsOf(line: string): string[] {
  return [...line.matchAll(/(?:^|,)("(?:[^"]|"")*"|[^",]*)/g)].map(([, field = '']) =>
    field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field,
  );
}

function contextOf({ userId = '', timestamp }: Rating): Record<string, ColumnValue> {
  return { userId, timestamp: Number(timestamp) };
}

function candidateOf({ movieId = '', genres = '', year }: Rating): Candidate {
  return { adgroup: movieId, features: { genres, year: year === '' ? null : Number(year) } };
}

/** The share of the rows that come later. */
const LATER_SHARE = 0.01;

interface CutLog {
  readonly earlierPath: string;
  readonly laterPath: string;
  /** Rows of the later part in order of time, by column. */
  readonly later: readonly Rating[];
}

/** @param path a gzip of CSV whose column `timestamp` is the time in seconds. */
async function cutLog(path: string, folder: string): Promise<CutLog> {
  const bySecond = (await readRatings(path))
    .map((row) => ({ row, second: Number(row['timestamp']) }))
    .sort((a, b) => a.second - b.second);
  const cut = at(bySecond, Math.floor(bySecond.length * (1 - LATER_SHARE))).second;
  const [earlierPath, laterPath] = [join(folder, 'earlier.csv'), join(folder, 'later.csv')];
  await mkdir(folder, { recursive: true });
  const write = async (file: string, isWanted: (second: number) => boolean): Promise<Rating[]> => {
    const rows = bySecond.flatMap(({ row, second }) => (isWanted(second) ? [row] : []));
    await writeFile(file, csvOf(rows));
    return rows;
  };
  await write(earlierPath, (second) => second < cut);
  return { earlierPath, laterPath, later: await write(laterPath, (second) => second >= cut) };
}

function csvOf(rows: readonly Rating[]): string {
  const line = (fields: readonly string[]): string =>
    fields.map((field) => `"${field.replaceAll('"', '""')}"`).join(',');
  const lines = [Object.keys(rows[0] ?? {}), ...rows.map((row) => Object.values(row))].map(line);
  return `${lines.join('\n')}\n`;
}

const OUTER_STEPS = 60;
const CANDIDATE_COUNT = 10;
const REQUESTS_MAX = 150;
const POLL_SECONDS = 0.2;
const SWAP_TIMEOUT_MS = 60_000;
const SWAP_LOOK_INTERVAL_MS = 50;
const SLOTS = [1, 2, 3];

interface ClosedLoop {
  /** The folder for everything that the loop makes. */
  readonly out: string;
  readonly print: (text: string) => void;
  readonly options: CallOptions;
  readonly clock: Clock;
}

/** Returns when the refreshed bundle has been served. */
export async function runClosedLoop({ out, print, options, clock }: ClosedLoop): Promise<void> {
  const whole = await demoConfig(out);
  if (existsSync(whole.data.store))
    throw new QianmoError({
      ...{ kind: 'usage', what: 'the demo was here before, and has appended later ratings' },
      ...{ where: whole.data.store, cure: 'remove the folder, or name another one with --out' },
    });
  const log = await cutLog(at([whole.data.logs].flat(), 0), join(out, 'logs'));
  const config: RunConfig = {
    ...whole,
    data: { ...whole.data, logs: log.earlierPath },
    training: { ...whole.training, outerSteps: OUTER_STEPS },
    evaluation: {
      ...whole.evaluation,
      // An export needs no other, and two of them train a global model.
      arms: ['constant', 'meta-unadapted', 'meta-adapted'],
      innerRates: [0.1, 0.3],
      innerSteps: [1, 3],
      bootstrapSamples: 200,
    },
  };
  print(`1. prepare, train, evaluate: the ratings before the last ${log.later.length}`);
  await prepare({ config }, options);
  const run = await openRun({ config }, options);
  try {
    await run.train({ resume: true });
    await run.evaluate();
  } finally {
    await run.close();
  }
  print('\n2. export: a block for every film');
  const exported = await exportRun({ config }, options);
  const policyPath = join(out, 'policy.yaml');
  const exploration = {
    ...{ mode: 'active', policy: 'thompson', slots: SLOTS },
    share: { kind: 'fixed', share: 0.1 },
    cutOff: { impressions: 1_000 },
  };
  await writeFile(policyPath, yamlOf({ exploration }));

  print('\n3. serve: later ratings as requests, and what became of the films as feedback');
  const service = await serveRankings(
    {
      ...{ bundle: exported.bundles, port: 0, pollSeconds: POLL_SECONDS },
      ...{ explore: policyPath, state: join(out, 'state') },
    },
    { ...options, ownEnvironment: undefined },
  );
  try {
    const film = mostRatedOf(log.later);
    const client = new RankingClient({ url: service.url, timeoutMs: 60_000 });
    print(await answeredRequests(client, log.later));
    const before = await scoreOf(client, film);

    print(
      `\n4. refresh: ${log.later.length} ratings are appended, films with new ones adapt again`,
    );
    const refreshed = await refresh(
      { config, logs: log.laterPath },
      // This process serves meanwhile, so that others compute.
      { ...options, ownEnvironment: undefined },
    );
    const { refreshDocument } = await import('../../coordinator/reports/bundle-documents.js');
    const { asText } = await import('../../coordinator/reports/document/as-text.js');
    print(asText(refreshDocument(refreshed)));
    await waitForSwap(service, refreshed.digest, clock);
    print(comparison(film, before, await scoreOf(client, film)));
  } finally {
    await service.close();
  }
}

function mostRatedOf(rows: readonly Rating[]): Rating {
  const counts = new Map<string, number>();
  for (const { movieId = '' } of rows) counts.set(movieId, (counts.get(movieId) ?? 0) + 1);
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  const found = rows.find(({ movieId }) => movieId === most?.[0]);
  if (found === undefined) throw new Error('the later part of the log has rows');
  return found;
}

/** The part of an answer that the demo reads. */
const ExplorationSchema = z.looseObject({
  events: z.array(z.string()),
  isExploration: z.array(z.boolean()),
});

/** Sends a request for each rating, and then what its user thought of the films that were shown. */
async function answeredRequests(client: RankingClient, later: readonly Rating[]): Promise<string> {
  const random = randomStream(3, 'candidates of the demo');
  const liked = new Map(later.map((row) => [`${row['userId']} ${row['movieId']}`, isLiked(row)]));
  const counts = { requests: 0, shown: 0, explored: 0, outcomes: 0, counted: 0 };
  for (const row of later.slice(0, REQUESTS_MAX)) {
    const films = new Map([[row['movieId'] ?? '', row]]);
    while (films.size < CANDIDATE_COUNT) {
      const other = at(later, random.below(later.length));
      films.set(other['movieId'] ?? '', other);
    }
    const candidates = [...films.values()];
    const ranked = await client.rank({
      context: contextOf(row),
      candidates: candidates.map(candidateOf),
      slots: SLOTS.length,
    });
    const { events: shown, isExploration } = ExplorationSchema.parse(ranked.exploration);
    const events = shown.flatMap((event, place): FeedbackEvent[] => {
      const film = at(candidates, at(ranked.order, place));
      const isKnown = liked.get(`${row['userId']} ${film['movieId']}`);
      const impression = { kind: 'impression', event } as const;
      return isKnown === true ? [impression, { kind: 'outcome', event }] : [impression];
    });
    const receipts = await client.feedback(events);
    counts.requests += 1;
    counts.shown += shown.length;
    counts.explored += isExploration.filter(Boolean).length;
    counts.outcomes += events.length - shown.length;
    counts.counted += receipts.filter((receipt) => receipt === 'counted').length;
  }
  return [
    `${counts.requests} requests, ${counts.shown} films shown, ${counts.explored} of them to explore;`,
    `${counts.outcomes} were liked; ${counts.counted} events of feedback counted`,
  ].join(' ');
}

function isLiked({ rating }: Rating): boolean {
  return Number(rating) >= 4;
}

interface FilmScore {
  readonly bundle: string;
  readonly probability: number;
  readonly supportRows: number;
  readonly liked: number;
}

async function scoreOf(client: RankingClient, film: Rating): Promise<FilmScore> {
  const { bundle, probabilities, evidence } = await client.score({
    context: contextOf(film),
    candidates: [candidateOf(film)],
  });
  return {
    bundle,
    probability: at(probabilities, 0) ?? 0,
    supportRows: at(evidence.supportRows, 0),
    liked: at(evidence.clicks, 0),
  };
}

/** Waits until the server has found the label where the refresh has moved it. */
async function waitForSwap(service: RankingService, digest: string, clock: Clock): Promise<void> {
  const endMs = clock.monotonicMs() + SWAP_TIMEOUT_MS;
  while (service.bundle !== digest) {
    if (clock.monotonicMs() > endMs)
      throw new QianmoError({
        kind: 'failed',
        what: 'the server does not serve the refreshed bundle',
        expected: digest,
        found: service.bundle,
      });
    await clock.sleep(SWAP_LOOK_INTERVAL_MS);
  }
}

function comparison({ title, movieId }: Rating, before: FilmScore, after: FilmScore): string {
  const line = (name: string, found: (score: FilmScore) => string): string =>
    `  ${name.padEnd(24)}${found(before).padEnd(14)}${found(after)}`;
  return [
    `\nThe server has swapped. The film with most of the new ratings, ${title} (${movieId}), for one user:`,
    line('', (score) => (score === before ? 'before' : 'after')),
    line('bundle', ({ bundle }) => bundle.slice(0, 12)),
    line('ratings it rests on', ({ supportRows }) => String(supportRows)),
    line('liked among them', ({ liked }) => String(liked)),
    line('probability to be liked', ({ probability }) => probability.toFixed(3)),
  ].join('\n');
}
