/**
 * The closed loop on the demo's data: a model that knows nothing of some new films is served, people are asked and click, and what was
 * served trains the next models. Refreshes read the row log of the server and nothing else.
 */

import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { openDuckSession } from '../../coordinator/logs/duckdb-session.js';
import { literal } from '../../coordinator/logs/sql.js';
import type { CallOptions } from '../../coordinator/runs/run-handle.js';
import { at } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import { errorOf } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { yamlOf } from '../../shared/config/yaml-file.js';
import { shortDigest } from '../../shared/names/counted.js';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { holdLease } from '../../shared/storage/lease.js';
import { evaluate, exportRun, prepare, refresh, serveRankings, train } from './index.js';
import { RankingClient, type Candidate, type ColumnValue, type FeedbackEvent } from './client.js';
import { demoConfig } from './demo.js';
import { spoolIn } from './served-state.js';

const OUTER_STEPS = 60;
const NEW_FILM_COUNT = 60;
/** Only people who have rated a film can be asked about it. */
const NEW_FILM_RATINGS_MIN = 100;
/** Fewer films train and are exported sooner. */
const KNOWN_FILM_RATINGS_MIN = 20;
const CANDIDATE_COUNT = 8;
const SLOTS = [1, 2, 3];
/** A refresh follows each part of the requests but the last. */
const PART_COUNT = 3;
const WINDOW_SECONDS = 1;
const ROWS_SECONDS = 1;
const POLL_SECONDS = 0.2;
const LOOK_INTERVAL_MS = 50;
const CONFIG_FILE = 'demo-serve.yaml';
const LEASE_FOLDER = 'demo-serve.lease';
/** They show that the folder is the demo's, and stay when the next one starts, so that this can be stopped, too. */
const OWN_NAMES = [CONFIG_FILE, LEASE_FOLDER];
const BEAT_INTERVAL_MS = 5_000;
const SILENCE_MS_MAX = 20_000;
const DUCKDB_MEMORY_MIB = 512;
/** Of the bar of a regret of 1. */
const BAR_COLUMNS = 30;

const EXPLORATION = {
  ...{ mode: 'active', policy: 'thompson', slots: SLOTS },
  share: { kind: 'fixed', share: 0.1 },
  feedback: { windowSeconds: WINDOW_SECONDS },
};

interface ClosedLoop {
  /** The folder for everything that the loop makes. */
  readonly out: string;
  readonly requestCount: number;
  readonly print: (text: string) => void;
  readonly options: CallOptions;
  readonly clock: Clock;
}

/** Starts from nothing, also where an earlier loop was stopped. Of two in one folder, the second is refused. */
export async function runClosedLoop(loop: ClosedLoop): Promise<void> {
  const { out, clock, options } = loop;
  await requireOwnFolder(out);
  const lease = await holdLease({
    ...{
      store: new FileObjectStore({ folder: join(out, LEASE_FOLDER), clock }),
      key: 'lease.json',
    },
    ...{ run: 'demo-serve', start: freshNonce(), clock, signal: options.signal },
    ...{ beatIntervalMs: BEAT_INTERVAL_MS, silenceMsMax: SILENCE_MS_MAX, onWait: () => undefined },
    busyError: ({ process: { pid, host } }) =>
      errorOf('usage', 'another demo runs in this folder', {
        where: out,
        ...{ expected: 'one at a time', found: `process ${pid} on ${host}` },
        cure: 'wait until it has finished, stop it, or name another folder with --out',
      }),
  });
  try {
    await runAlone(loop);
  } finally {
    await lease.release();
  }
}

async function runAlone(loop: ClosedLoop): Promise<void> {
  const { out, requestCount, print, options } = loop;
  const whole = await demoConfig(out);
  for (const name of await readdir(out))
    if (!OWN_NAMES.includes(name)) await rm(join(out, name), { recursive: true, force: true });
  const logs = join(out, 'known-films.csv');
  const config: RunConfig = {
    ...whole,
    data: {
      ...{ ...whole.data, logs },
      // Nothing that a new film shares with others, so only served rows tell it from them.
      features: whole.data.features.filter(({ name }) => ['user', 'hour'].includes(name)),
    },
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
  await writeFile(join(out, CONFIG_FILE), yamlOf(config));
  const requests = (await divideRatings(whole, logs, loop)).slice(0, requestCount);
  print(`1. Train and export, without ${NEW_FILM_COUNT} films, which are new`);
  await prepare({ config }, options);
  await train({ config }, options);
  await evaluate({ config }, options);
  const { bundles: bundle } = await exportRun({ config, rows: 'all' }, options);

  print(
    `2. Serve ${requests.length} requests: each shows ${SLOTS.length} of ${CANDIDATE_COUNT} new films, and a person clicks on ` +
      'those rated 4 or better',
  );
  const explore = join(out, 'policy.yaml');
  await writeFile(explore, yamlOf({ exploration: EXPLORATION }));
  const place = { state: join(out, 'state'), rows: join(out, 'rows') };
  const service = await serveRankings(
    {
      ...{ ...place, bundle, explore },
      ...{ port: 0, pollSeconds: POLL_SECONDS, rowsSeconds: ROWS_SECONDS },
    },
    { ...options, ownEnvironment: undefined },
  );
  try {
    const client = new RankingClient({ url: service.url, timeoutMs: 60_000 });
    await servedInParts({ ...loop, ...place, config, client }, requests);
  } finally {
    await service.close();
  }
}

/** @throws QianmoError `usage` if the folder has files of others. */
async function requireOwnFolder(out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const names = await readdir(out);
  if (names.length > 0 && !names.some((name) => OWN_NAMES.includes(name)))
    throw errorOf('usage', 'the folder of the demo has other files', {
      where: out,
      ...{ expected: `none, or those of an earlier demo, with ${CONFIG_FILE}` },
      ...{ found: names.slice(0, 3).join(', '), cure: 'name another folder with --out' },
    });
}

/** A candidate that the person of a request has rated. */
interface RatedFilm {
  readonly candidate: Candidate;
  readonly title: string;
  /** The person clicks on it: the label of the example's config. */
  readonly isLiked: boolean;
}

interface PersonRequest {
  readonly context: Readonly<Record<string, ColumnValue>>;
  readonly films: readonly RatedFilm[];
}

/**
 * Writes the ratings of films that are not new to a log. The ratings of the new ones are what people think: a person is asked about films
 * that he has rated, and about each once. So every click follows a true rating, and its probability is 0 or 1.
 */
async function divideRatings(
  { data }: RunConfig,
  log: string,
  { out, options }: ClosedLoop,
): Promise<PersonRequest[]> {
  const signal = options.signal ?? new AbortController().signal;
  const session = await openDuckSession(out, DUCKDB_MEMORY_MIB, signal);
  try {
    const ratings = literal(at([data.logs].flat(), 0));
    await session.run(
      `CREATE TABLE ratings AS FROM read_csv(${ratings}, header = true, all_varchar = true);
      CREATE TABLE films AS SELECT movieId FROM ratings GROUP BY movieId HAVING count(*) >= ${KNOWN_FILM_RATINGS_MIN};
      CREATE TABLE new_films AS SELECT movieId FROM ratings GROUP BY movieId
        HAVING count(*) >= ${NEW_FILM_RATINGS_MIN} ORDER BY md5(movieId) LIMIT ${NEW_FILM_COUNT};
      COPY (FROM ratings WHERE movieId IN (FROM films EXCEPT FROM new_films) ORDER BY "timestamp"::BIGINT, userId, movieId)
        TO ${literal(log)} (HEADER)`,
    );
    const rows = await session.rows(
      `SELECT userId, movieId, title, rating::DOUBLE >= 4, (SELECT max("timestamp"::DOUBLE) FROM ratings)
        FROM (SELECT *, (row_number() OVER (PARTITION BY userId ORDER BY md5(userId || ' ' || movieId)) - 1) // ${CANDIDATE_COUNT} AS slate
          FROM ratings WHERE movieId IN (FROM new_films))
        QUALIFY count(*) OVER (PARTITION BY userId, slate) = ${CANDIDATE_COUNT}
        ORDER BY md5(userId || ' ' || slate), userId, movieId`,
    );
    return Array.from({ length: rows.length / CANDIDATE_COUNT }, (_, place): PersonRequest => {
      const films = rows.slice(place * CANDIDATE_COUNT, (place + 1) * CANDIDATE_COUNT);
      const [userId = null, , , , lastSecond] = at(films, 0);
      return {
        // One a minute, after all ratings.
        context: { userId, timestamp: Number(lastSecond) + 60 * (place + 1) },
        films: films.map(([, adgroup, title, isLiked]) => ({
          ...{ candidate: { adgroup: String(adgroup) }, title: String(title) },
          isLiked: isLiked === true,
        })),
      };
    });
  } finally {
    session.close();
  }
}

interface ServedLoop extends ClosedLoop {
  readonly config: RunConfig;
  readonly state: string;
  /** The address of the row log. */
  readonly rows: string;
  readonly client: RankingClient;
}

async function servedInParts(loop: ServedLoop, requests: readonly PersonRequest[]): Promise<void> {
  const { client, print, options } = loop;
  const size = Math.ceil(requests.length / PART_COUNT);
  const shownCounts = new Map<string, number>();
  const countOf = ({ title }: RatedFilm): number => shownCounts.get(title) ?? 0;
  const likedCount = (films: readonly RatedFilm[]): number =>
    films.filter(({ isLiked }) => isLiked).length;
  // No model learns what its person thinks of its films: it is served after the last refresh.
  const fixed = at(requests, requests.length - 1);
  let film = at(fixed.films, 0);
  const facts: Readonly<Record<string, string>>[] = [];
  for (let first = 0; first < requests.length; first += size) {
    if (first > 0) await refreshOnRows(loop);
    const part = requests.slice(first, first + size);
    let lostCount = 0;
    for (const request of part) {
      options.signal?.throwIfAborted();
      const shown = await shownTo(client, request);
      lostCount += Math.min(shown.length, likedCount(request.films)) - likedCount(shown);
      for (const each of shown) shownCounts.set(each.title, countOf(each) + 1);
    }
    const regret = lostCount / part.length;
    const bar = '#'.repeat(Math.round(regret * BAR_COLUMNS));
    print(`   requests ${first + 1} to ${first + part.length}: regret ${regret.toFixed(2)} ${bar}`);
    if (first === 0)
      film = fixed.films.reduce((most, each) => (countOf(each) > countOf(most) ? each : most));
    if (first === 0 || first + size >= requests.length)
      facts.push(await factsOf(client, fixed, film));
  }
  const [before = {}, after = {}] = facts;
  print(
    `3. ${film.title}, a film of the last request, before the first refresh and after the last`,
  );
  for (const [name, value] of Object.entries(before))
    print(`   ${name.padEnd(28)}${value.padEnd(16)}${after[name]}`);
}

/** The part of an answer that the demo reads. */
const ExplorationSchema = z.looseObject({ events: z.array(z.string()) });

/** Sends a request and then its feedback. Returns the films that were shown. */
async function shownTo(
  client: RankingClient,
  { context, films }: PersonRequest,
): Promise<RatedFilm[]> {
  const candidates = films.map(({ candidate }) => candidate);
  const { order, exploration } = await client.rank({ context, candidates, slots: SLOTS.length });
  const shown = order.slice(0, SLOTS.length).map((place) => at(films, place));
  // A disk that hangs logs nothing, and then there is nothing to report.
  const { events } = ExplorationSchema.parse(exploration ?? { events: [] });
  const feedback = events.flatMap((event, place): FeedbackEvent[] => [
    { kind: 'impression', event },
    ...(at(shown, place).isLiked ? [{ kind: 'outcome', event } as const] : []),
  ]);
  if (feedback.length > 0) await client.feedback(feedback);
  return shown;
}

/** Trains on the rows that were served since the last refresh, and waits until the server has the new bundle. */
async function refreshOnRows(loop: ServedLoop): Promise<void> {
  const { config, state, rows, client, clock, options, print } = loop;
  const until = async (isSo: () => Promise<boolean>): Promise<void> => {
    while (!(await isSo())) {
      await clock.sleep(LOOK_INTERVAL_MS, options.signal);
      options.signal?.throwIfAborted();
    }
  };
  await until(async () => (await readdir(spoolIn(state))).length === 0);
  await clock.sleep(1_000 * (WINDOW_SECONDS + 2 * ROWS_SECONDS) + LOOK_INTERVAL_MS, options.signal);
  // This process serves meanwhile, so that others compute.
  const own = { ...options, ownEnvironment: undefined };
  const { append, digest } = await refresh({ config, logs: rows }, own);
  await until(async () => {
    const { bundle, refused } = await client.bundle();
    if (refused === null) return bundle === digest;
    throw errorOf('failed', 'the server refuses the refreshed bundle', {
      ...{ where: digest, found: JSON.stringify(refused) },
    });
  });
  const { logRowCount = 0, newTaskCount = 0, changedTaskCount = 0 } = append ?? {};
  print(
    `   refresh: ${logRowCount} served rows; ${newTaskCount} films are new to the model, ${changedTaskCount} adapt again; ` +
      `now serving ${shortDigest(digest)}`,
  );
}

async function factsOf(
  client: RankingClient,
  { context, films }: PersonRequest,
  film: RatedFilm,
): Promise<Readonly<Record<string, string>>> {
  const candidates = films.map(({ candidate }) => candidate);
  const { bundle, probabilities, evidence } = await client.score({ context, candidates });
  const place = films.indexOf(film);
  const probability = at(probabilities, place) ?? 0;
  const countOf = (isSo: (other: number) => boolean): number =>
    probabilities.filter((other) => isSo(other ?? 0)).length;
  const rank =
    countOf((other) => other > probability) + (1 + countOf((other) => other === probability)) / 2;
  return {
    bundle: shortDigest(bundle),
    'served rows it rests on': String(at(evidence.supportRows, place)),
    'clicks among them': String(at(evidence.clicks, place)),
    'probability of a click': probability.toFixed(3),
    'rank in that request': `${rank} of ${CANDIDATE_COUNT}`,
  };
}
