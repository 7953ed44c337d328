/** The page of a soak: what struck, what grew, what was left. */

import { circumstances, grouped, markdownTable, type BenchHeader } from '../bench/bench-header.js';
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
    `${circumstances(record)} Seed ${record.seed}, ${minutes.toFixed(0)} minutes, ${faultCount} faults. ${verdictOf(record)}`,
    '',
    'Faults strike a coordinator, two workers, their compute processes and Redis. A *steady* coordinator and worker live from the beginning to the end.',
    `${grouped(record.completedRuns)} struck runs ended after ${grouped(record.resumes)} resumes, with the digest of a run without faults.`,
    ...(end === null
      ? []
      : [
          `The steady run took ${grouped(end.steadyOuterSteps)} outer steps; its digest is ${end.isSteadyDigestRight ? '' : 'NOT '}that of a run in process.`,
        ]),
    '',
    '## Faults',
    '',
    ...markdownTable(['fault', 'times'], Object.entries(faults)),
    '',
    '## Growth',
    '',
    `Slopes are judged after the first quarter, those of blobs after their lifetime of ${record.blobLifetimeMinutes} minutes. Memory is resident memory.`,
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
