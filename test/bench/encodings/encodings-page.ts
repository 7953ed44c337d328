/** The recorded page of runs whose tensors travel in other encodings. */

import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';

interface LossDifference {
  readonly mean: number;
  /** Standard error over the outer steps, which are the same of both runs. */
  readonly error: number;
}

export interface EncodedRun {
  readonly config: string;
  readonly parameters: string;
  readonly gradients: string;
  readonly outerSteps: number;
  /** Means over the outer steps after the first. */
  readonly denseByteCount: number;
  readonly rowPackByteCount: number;
  readonly outputByteCount: number;
  /** Into and out of Redis, by its own count. */
  readonly redisByteCount: number;
  /** The mean query loss of the last outer steps. */
  readonly loss: number;
  /** Against the run of the config with float32 both ways; null for itself. */
  readonly minusFloat32: LossDifference | null;
  readonly seconds: number;
}

export interface EncodingsRecord extends BenchHeader {
  /** The share of the outer steps, at the end, whose loss counts. */
  readonly lossShare: number;
  readonly workerCount: number;
  readonly runs: readonly EncodedRun[];
}

function differenceText(difference: LossDifference | null): string {
  if (difference === null) return '';
  const sign = difference.mean < 0 ? '' : '+';
  return `${sign}${difference.mean.toFixed(5)} ± ${difference.error.toFixed(5)}`;
}

export function encodingsPage(record: EncodingsRecord): string {
  const share = Math.round(record.lossShare * 100);
  const rows = record.runs.map((run) => [
    ...[run.config, run.parameters, run.gradients, grouped(run.outerSteps)],
    ...[run.denseByteCount, run.rowPackByteCount, run.outputByteCount, run.redisByteCount].map(
      (byteCount) => grouped(Math.round(byteCount)),
    ),
    ...[run.loss.toFixed(5), differenceText(run.minusFloat32), run.seconds],
  ]);
  return [
    '# Rounded tensors on their way',
    '',
    `Commit ${record.commit}, ${record.date}; ${record.machine}; load before ${record.loadBefore}.`,
    `${record.workerCount} worker processes, an embedded Redis. \`heavy\` and \`demo\` are the configs of [scaling](scaling.md); \`heavy\` has a`,
    'log of 300,000 rows. Parameters are dense variables and row packs on their way to workers, gradients are outputs on their way back',
    '(`training.encodings`). Byte counts are means per outer step without the first.',
    '',
    `The loss is the query loss before each update, as the mean of the last ${share} % of the outer steps. All runs of a config draw the same tasks, so`,
    'the difference from float32 is paired by outer step; after ± is its standard error. Losses and bytes of blobs are the same in every repetition; seconds and the bytes that Redis counts are not.',
    '',
    ...markdownTable(
      [
        ...['run', 'parameters', 'gradients', 'outer steps', 'dense bytes', 'row pack bytes'],
        ...['output bytes', 'bytes into and out of Redis', 'loss', 'minus float32', 'seconds'],
      ],
      rows,
    ),
    '',
  ].join('\n');
}
