/** The page of a soak: what struck, what grew, what was left. */

import { grouped, markdownTable, type BenchHeader } from '../bench/bench-header.js';
import { flatnessOf } from './flatness.js';
import type { FaultCounts } from './soak-faults.js';
import { ruleOf, type Measured } from './soak-samples.js';

export interface SoakRecord extends BenchHeader {
  readonly seed: number;
  readonly minutes: number;
  /** Whether the struck coordinator wrote to a disk of its own, which faults filled. */
  readonly hasOwnDisk: boolean;
  readonly faults: FaultCounts;
  readonly completedRuns: number;
  readonly resumes: number;
  /** Ends that no fault explains, and digests that differ. */
  readonly findings: readonly string[];
  readonly measures: readonly Measured[];
  /** How long blobs of killed processes stay in Redis. */
  readonly blobLifetimeMinutes: number;
  /** Null while the soak goes on. */
  readonly end: SoakEnd | null;
}

export interface SoakEnd {
  readonly steadyOuterSteps: number;
  readonly isSteadyDigestRight: boolean;
  readonly processesLeft: number;
  readonly temporaryFilesLeft: number;
  readonly blobsLeft: number;
  /** These would stay for ever. */
  readonly blobsWithoutLifetime: number;
}

/** Caches and heaps have not settled before. */
const JUDGED_MINUTES_MIN = 20;

export function soakPage(record: SoakRecord): string {
  const { minutes, faults, end } = record;
  const faultCount = Object.values(faults).reduce((sum, count) => sum + count, 0);
  return [
    '# Soak',
    '',
    `Commit ${record.commit}, ${record.date}; ${record.machine}; load before ${record.loadBefore}. Seed ${record.seed}, ${minutes.toFixed(0)} minutes,`,
    `${faultCount} faults. ${verdictOf(record)}`,
    '',
    'One coordinator and one worker are *steady*: they live from the beginning to the end and see what fails around them.',
    'Faults strike a second coordinator, two workers, their compute processes, and the Redis that all share, one after another.',
    `The struck coordinator trains one run of 200 outer steps over and over; ${grouped(record.completedRuns)} of these runs ended, after`,
    `${grouped(record.resumes)} resumes, and their digests were compared with that of a run without faults.`,
    ...(end === null
      ? []
      : [
          `The steady run took ${grouped(end.steadyOuterSteps)} outer steps; its digest is ${end.isSteadyDigestRight ? '' : 'NOT '}that of a run in process.`,
        ]),
    '',
    'A start that finds no Redis or whose compute process is killed, and a run whose disk is full, end with exit code 3, as they should;',
    'they are started again.',
    '',
    '## Faults',
    '',
    ...markdownTable(['fault', 'times'], Object.entries(faults)),
    '',
    record.hasOwnDisk
      ? 'The full disks are a small file system below the struck coordinator, and a limit on the file sizes of Redis. Workers write no files here.'
      : 'Redis had a full disk by a limit on its file sizes. No file system could be mounted, so no coordinator had one. Workers write no files here.',
    '',
    '## Growth',
    '',
    'Slope: the median of the slopes between the levels of windows of time, after the first quarter. The level is the median of each of twelve',
    'windows; for the memory of steady processes it is the least of each of four, since it falls only when garbage is collected. Flat: at most',
    '10 % of the level an hour, or 16 MiB or 10 things an hour where that is more. Memory is resident memory. Blobs of killed processes stay',
    `for ${record.blobLifetimeMinutes} minutes, after`,
    'which their number is judged.',
    '',
    ...markdownTable(
      ['measure', 'early', 'late', 'slope an hour', 'bound an hour', 'flat'],
      record.measures.map((measure) => growthRow(measure, record.blobLifetimeMinutes)),
    ),
    '',
    ...(end === null ? [] : endLines(end)),
    ...(record.findings.length === 0
      ? []
      : ['## Findings', '', ...record.findings.flatMap((text) => ['```', text, '```', ''])]),
  ].join('\n');
}

function growthRow(measure: Measured, blobLifetimeMinutes: number): (string | number)[] {
  const flatness = flatnessOf(measure.points, ruleOf(measure, blobLifetimeMinutes));
  if (flatness === null) return [measure.name, '', '', '', '', 'not judged'];
  const unit = measure.unit === 'MiB' ? ' MiB' : '';
  const amount = (value: number): string => `${value.toFixed(unit === '' ? 0 : 1)}${unit}`;
  return [
    ...[measure.name, amount(flatness.early), amount(flatness.late)],
    ...[amount(flatness.slopePerHour), amount(flatness.boundPerHour)],
    flatness.isFlat ? 'yes' : '**no**',
  ];
}

function endLines(end: SoakEnd): string[] {
  return [
    '## After the end',
    '',
    ...markdownTable(
      ['left when all commands had stopped', 'count'],
      [
        ['processes', end.processesLeft],
        ['temporary files', end.temporaryFilesLeft],
        ['blobs in Redis, which end by themselves', end.blobsLeft],
        ['blobs in Redis without a lifetime', end.blobsWithoutLifetime],
      ],
    ),
    '',
  ];
}

export function verdictOf({
  minutes,
  measures,
  findings,
  end,
  blobLifetimeMinutes,
}: SoakRecord): string {
  const growing = measures
    .filter(
      (measure) =>
        flatnessOf(measure.points, ruleOf(measure, blobLifetimeMinutes))?.isFlat === false,
    )
    .map(({ name }) => name);
  const isClean =
    findings.length === 0 &&
    (end === null ||
      (end.isSteadyDigestRight &&
        end.processesLeft + end.temporaryFilesLeft + end.blobsWithoutLifetime === 0));
  const course = `${isClean ? 'No' : '**An**'} end or digest was other than expected${leftovers(isClean, end)}.`;
  if (minutes < JUDGED_MINUTES_MIN) return `${course} Too short to judge growth.`;
  if (growing.length === 0) return `${course} Every measure is flat.`;
  return `${course} **Not flat: ${growing.join(', ')}.**`;
}

function leftovers(isClean: boolean, end: SoakEnd | null): string {
  if (end === null) return '';
  return isClean ? ', and nothing was left behind' : ' or something was left behind';
}
