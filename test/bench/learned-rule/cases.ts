/**
 * The streams of the learned-rule benchmark: drifting worlds, MovieLens by time, Open Bandit by
 * time.
 */

import { tmpdir } from 'node:os';
import {
  comparisonSettingsOf,
  evenStarts,
} from '../../../coordinator/streaming/comparison-settings.js';
import {
  DRIFTING_PLAIN_SLOTS,
  DRIFTING_SLOTS,
  driftingStream,
} from '../../fixtures/drifting-stream.js';
import type { ComparisonSettings } from '../../../coordinator/streaming/rule-comparison.js';
import { readStreamLog } from '../../../coordinator/streaming/stream-log.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { loadStreamConfig } from '../../../shared/config/load-run-config.js';
import { StreamConfigSchema, type StreamConfig } from '../../../shared/config/stream-config.js';
import {
  openObjectStore,
  s3OptionsOf,
  StorageConfigSchema,
} from '../../../shared/storage/open-object-store.js';
import { rowCountOf, type StreamRows } from '../../../shared/streaming/stream-rows.js';
import { isPublicDataThere, movielens1mLog, openBanditLog } from './public-logs.js';
import { truthLoglosses } from './truth-filter.js';

export interface BenchCase {
  readonly name: string;
  readonly about: string;
  readonly isThere: boolean;
  readonly open: () => Promise<OpenedCase>;
}

interface OpenedCase {
  readonly rows: StreamRows;
  readonly settings: ComparisonSettings;
  /** Segments that form one column of the table by time. */
  readonly segmentsPerColumn: number;
  /** Logloss of predictors that know the truth, on the judged rows; empty for real logs. */
  readonly truth: Readonly<Record<string, number>>;
}

const MEETING_SLOTS = ['user', 'adgroup'].map((wanted) =>
  DRIFTING_SLOTS.findIndex(({ name }) => name === wanted),
);
const ROWS_PER_DAY = 100_000;
const PRIOR_DAYS = 3;
const SEGMENTS_PER_DAY = 4;

export function benchCases(days: number, seeds: readonly number[]): BenchCase[] {
  const drifting = seeds.map((seed) =>
    driftingCase(`drifting, seed ${seed}`, 'weights drift, and features appear and disappear', {
      seed,
      days,
    }),
  );
  const [seed = 1] = seeds;
  return [
    movielensCase('MovieLens', {}),
    movielensCase('MovieLens, rank 0', { rank: 0 }),
    ...['random', 'bts'].map(openBanditCase),
    movielens1mCase(),
    ...drifting.slice(0, 1),
    driftingCase(
      `drifting, seed ${seed}, embedded by meeting`,
      'only users and adgroups are embedded',
      {
        seed,
        days,
        meeting: true,
      },
    ),
    driftingCase(`still, seed ${seed}`, 'weights are constant, and features appear and disappear', {
      seed,
      days,
      drift: 0,
    }),
    driftingCase(`drifting, seed ${seed}, rank 0`, 'without the low-rank part', {
      seed,
      days,
      rank: 0,
    }),
    ...drifting.slice(1),
  ];
}

interface DriftingCase {
  readonly seed: number;
  readonly days: number;
  readonly drift?: number;
  readonly rank?: number;
  /** Embeds only users and adgroups, in more sweeps. */
  readonly meeting?: boolean;
}

function driftingCase(name: string, about: string, drifting: DriftingCase): BenchCase {
  const { seed, days, drift = 1, rank = 8, meeting = false } = drifting;
  const world = {
    seed,
    days,
    drift,
    rowCount: days * ROWS_PER_DAY,
    classDeviation: drift === 0 ? 0 : 0.5,
  };
  const open = (): Promise<OpenedCase> => {
    const stream = driftingStream(world);
    const priorRowCount = PRIOR_DAYS * ROWS_PER_DAY;
    const segmentCount = SEGMENTS_PER_DAY * (days - PRIOR_DAYS);
    const settings: ComparisonSettings = {
      seed,
      batchRows: 1,
      priorRowCount,
      chosenFromRow: priorRowCount / 2,
      candidateCount: 24,
      rank,
      embeddedSlots: meeting ? MEETING_SLOTS : DRIFTING_PLAIN_SLOTS,
      placesOthers: !meeting,
      sweepCount: meeting ? 20 : 6,
      rareRows: 30,
      windowRows: priorRowCount / 20,
      epochCount: 6,
      pairsPerStep: 1,
      rate: 0.1,
      query: 'progressive',
      segmentStarts: evenStarts(priorRowCount, world.rowCount, segmentCount),
    };
    const truth = truthLoglosses(stream, world, priorRowCount);
    return Promise.resolve({
      rows: stream.rows,
      settings,
      truth,
      segmentsPerColumn: SEGMENTS_PER_DAY,
    });
  };
  return { name, about, isThere: true, open };
}

function movielensCase(name: string, learned: Partial<StreamConfig['learned']>): BenchCase {
  const about = 'ratings in order of time; a rating of 4 or more is a click';
  const open = async (): Promise<OpenedCase> => {
    const path = new URL('infra/examples/movielens-stream.yaml', packageRoot).pathname;
    const config = await loadStreamConfig(path);
    return openLog({ ...config, learned: { ...config.learned, ...learned } });
  };
  return { name, about, isThere: true, open };
}

/** The available MovieLens 1M has no times: it is ordered user by user, which is not time order. */
function movielens1mCase(): BenchCase {
  const open = async (): Promise<OpenedCase> =>
    openLog(
      StreamConfigSchema.parse({
        run: 'movielens-1m',
        data: { logs: movielens1mLog(), label: { expression: 'rating >= 4' }, time: 'row' },
        slots: [
          { name: 'constant', expression: "'all'" },
          { name: 'user' },
          { name: 'film' },
          { name: 'genre', expression: "string_split(genres, '|')" },
          { name: 'decade' },
          { name: 'user x genre', cross: ['user', 'genre'] },
          { name: 'user x decade', cross: ['user', 'decade'] },
          { name: 'genre x decade', cross: ['genre', 'decade'] },
        ],
        candidates: 24,
        output: 'runs/movielens-1m',
      }),
    );
  return {
    name: 'MovieLens 1M by user',
    about: 'ratings in order of user and film number, because the data has no times',
    isThere: isPublicDataThere('movielens-1m'),
    open,
  };
}

/** Both campaigns of one logging policy, if the data is next to the repository. */
function openBanditCase(policy: string): BenchCase {
  const open = async (): Promise<OpenedCase> => {
    const features = [0, 1, 2, 3].map((index) => `user_feature_${index}`);
    return openLog(
      StreamConfigSchema.parse({
        run: `open-bandit-${policy}`,
        data: { logs: openBanditLog(policy), label: { column: 'click' }, time: 'timestamp' },
        slots: [
          { name: 'campaign' },
          { name: 'position' },
          { name: 'item', expression: "campaign || '-' || item_id" },
          ...features.map((name) => ({ name })),
          { name: 'item x position', cross: ['item', 'position'] },
          ...features.map((name) => ({ name: `item x ${name}`, cross: ['item', name] })),
        ],
        priorShare: 0.5,
        output: 'runs/open-bandit',
      }),
    );
  };
  const about = `logged impressions of the ${policy} policy in order of time`;
  const isThere = isPublicDataThere('open-bandit-small');
  return { name: `Open Bandit, ${policy}`, about, isThere, open };
}

async function openLog(config: StreamConfig): Promise<OpenedCase> {
  const rows = await readStreamLog(config, {
    sink: () => undefined,
    signal: new AbortController().signal,
    objectStoreOf: (address) =>
      openObjectStore(address, s3OptionsOf(StorageConfigSchema.parse({}))),
    temporaryFolder: tmpdir(),
  });
  if (rowCountOf(rows) === 0) throw new Error('the log has no rows');
  const settings = comparisonSettingsOf(config, rows);
  return { rows, settings, truth: {}, segmentsPerColumn: Math.ceil(config.segments / 10) };
}
