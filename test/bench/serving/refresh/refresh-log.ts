/** A synthesized log cut in time: what a run is trained on, and what comes later. */

import { readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { at } from '../../../../shared/base/arrays.js';
import { packageRoot } from '../../../../infra/library/package-root.js';

/** The part of the rows that come later, and of the adgroups that the small log has rows of. */
const LATER_SHARE = 0.01;
const WORLD_CONFIG = new URL('test/bench/synthetic-world.yaml', packageRoot).pathname;

export interface CutLogFigures {
  readonly earlierRowCount: number;
  readonly laterRowCount: number;
  readonly adgroupCount: number;
  /** Adgroups with later rows. */
  readonly laterAdgroupCount: number;
  /** The smaller log: rows of one adgroup in a hundred, which are among the later ones. */
  readonly fewRowCount: number;
  readonly fewAdgroupCount: number;
}

/** Reads `log.csv`, which it removes, and writes `earlier.csv`, `later.csv` and `few.csv` beside it. */
export async function cutSynthesizedLog(folder: string): Promise<CutLogFigures> {
  const [head = '', ...lines] = (await readFile(join(folder, 'log.csv'), 'utf8'))
    .trimEnd()
    .split('\n');
  const [timeColumn, adgroupColumn] = ['time', 'adgroup'].map((name) =>
    head.split(',').indexOf(name),
  );
  const fieldOf = (line: string, column = -1): string => line.split(',')[column] ?? '';
  const timed = lines.map((line) => ({ line, time: Number(fieldOf(line, timeColumn)) }));
  timed.sort((a, b) => a.time - b.time);
  const first = Math.floor(timed.length * (1 - LATER_SHARE));
  const [earlier, later] = [timed.slice(0, first), timed.slice(first)].map((rows) =>
    rows.map(({ line }) => line),
  ) as [string[], string[]];
  const earlierAdgroups = new Set(earlier.map((line) => fieldOf(line, adgroupColumn)));
  const laterAdgroups = new Set(later.map((line) => fieldOf(line, adgroupColumn)));
  const known = [...laterAdgroups].filter((adgroup) => earlierAdgroups.has(adgroup)).sort();
  const wanted = Math.round(earlierAdgroups.size * LATER_SHARE);
  const few = new Set(
    Array.from({ length: Math.min(wanted, known.length) }, (_, place) =>
      at(known, Math.floor((place * known.length) / Math.min(wanted, known.length))),
    ),
  );
  const fewLines = later.filter((line) => few.has(fieldOf(line, adgroupColumn)));
  const write = (name: string, rows: readonly string[]): Promise<void> =>
    writeFile(join(folder, name), `${[head, ...rows].join('\n')}\n`);
  await write('earlier.csv', earlier);
  await write('later.csv', later);
  await write('few.csv', fewLines);
  await rm(join(folder, 'log.csv'));
  return {
    ...{ earlierRowCount: earlier.length, laterRowCount: later.length },
    ...{ adgroupCount: earlierAdgroups.size, laterAdgroupCount: laterAdgroups.size },
    ...{ fewRowCount: fewLines.length, fewAdgroupCount: few.size },
  };
}

/** The run of the synthetic-world bench on the earlier rows, with adgroups of two rows and more. */
export function refreshConfig(outerSteps: number): object {
  const config = parse(readFileSync(WORLD_CONFIG, 'utf8')) as {
    readonly data: { readonly rowSplit: object };
    readonly training: object;
  };
  const { data, training } = config;
  const rowSplit = { ...data.rowSplit, supportRowsMin: 1, queryRowsMin: 1 };
  return {
    ...config,
    ...{ run: 'refresh-bench', output: 'output' },
    data: { ...data, logs: 'earlier.csv', store: 'store', rowSplit },
    training: { ...training, outerSteps, checkpointEveryOuterSteps: outerSteps },
    evaluation: {
      arms: ['meta-unadapted', 'meta-adapted', 'meta-chosen'],
      ...{ innerRates: [0.3], innerSteps: [5], sizeBucketEdges: [10, 20, 50] },
    },
  };
}
