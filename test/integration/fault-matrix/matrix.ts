/**
 * The fault matrix: what each fault may do to a run, and the test that shows it with real processes.
 * `matrix.test.ts` holds `infra/docs/fault-matrix.md` to it.
 */

export interface FaultCell {
  readonly fault: string;
  readonly phase: string;
  /** The same digest as an undisturbed run, or the exit code and message of the exclusion. */
  readonly outcome: string;
  /** A file of this folder, which runs the cell by its fault and phase. */
  readonly file: string;
}

/** A fault that a test outside of this folder covers. */
export interface CoveredElsewhere extends FaultCell {
  /** Part of the test's title. */
  readonly title: string;
}

const SAME = 'same digest';
const SAME_AFTER_RESUME = 'same digest after `--resume`';

function cellsOf(
  file: string,
  rows: readonly (readonly [fault: string, phases: readonly string[], outcome: string])[],
): FaultCell[] {
  return rows.flatMap(([fault, phases, outcome]) =>
    phases.map((phase) => ({ fault, phase, outcome, file })),
  );
}

const WORKER_PHASES = [
  'while it fetches inputs',
  'while its compute process has the job',
  'while it sends the output',
  'while it hands the result in',
];
const COORDINATOR_PHASES = [
  'before its first job',
  'while it adds jobs',
  'while it reads a result',
];

export const CELLS: readonly FaultCell[] = [
  ...cellsOf('worker-processes.test.ts', [
    ['worker killed', WORKER_PHASES, SAME],
    ['worker suspended', ['while it fetches inputs'], `${SAME}; its late result is refused`],
  ]),
  ...cellsOf('coordinators-and-redis.test.ts', [
    ['coordinator killed', COORDINATOR_PHASES, SAME_AFTER_RESUME],
    ['coordinator suspended', COORDINATOR_PHASES, SAME],
    ['clock skewed', ['coordinator an hour ahead, worker an hour behind'], SAME],
    ['Redis suspended', ['between outer steps'], SAME],
    ['Redis killed and restarted', ['with jobs in flight'], SAME],
  ]),
  ...cellsOf('object-store.test.ts', [
    ['S3 answers 500 twice', ['to a blob'], SAME],
    ['S3 answers 503 twice', ['to a manifest'], SAME],
    ['S3 loses its reply', ['to a blob', 'to a manifest'], SAME],
    ['S3 answers 500', ['to every manifest'], 'exit code 3, the object store does not work'],
  ]),
  ...cellsOf('results.test.ts', [
    [
      'result',
      [
        'whose bytes are no tensors',
        'cut short',
        'with a loss of NaN',
        'with gradients of NaN',
        'with twice as many values',
        'of another protocol version',
        'forged for another job',
        'forged for another run',
        'that names a blob that is not there',
      ],
      `${SAME}; the result is refused and the job done again`,
    ],
    ['result', ['handed in twice'], `${SAME}; the second is refused`],
    [
      'result of a signed run',
      [
        'without a signature',
        'signed with another key',
        'that was handed in at an earlier outer step',
      ],
      `${SAME}; the result is refused and the job done again`,
    ],
    [
      'job of a signed run',
      ['before a worker without its key, beside one that has it'],
      `${SAME}; the worker refuses it`,
    ],
    [
      'poison task',
      ['that fails wherever it is computed'],
      'exit code 1, a task makes its job fail',
    ],
    ['sick worker', ['beside a healthy one'], SAME],
  ]),
];

export const CELLS_ELSEWHERE: readonly CoveredElsewhere[] = [
  {
    fault: 'all workers killed',
    phase: 'in the middle of a job',
    outcome: SAME,
    file: 'test/integration/same-digest.test.ts',
    title: 'when the workers are killed in the middle of a job',
  },
  {
    fault: 'coordinator killed',
    phase: 'after a checkpoint; its local workers end',
    outcome: SAME_AFTER_RESUME,
    file: 'test/integration/same-digest.test.ts',
    title: 'when the coordinator is killed and the run resumed',
  },
  {
    fault: 'Redis restarted, then killed',
    phase: 'under a run with local workers',
    outcome: SAME,
    file: 'test/integration/same-digest.test.ts',
    title: 'when Redis restarts, and when it is killed and loses its last second',
  },
  {
    fault: 'Redis loses everything',
    phase: 'in the middle of a job',
    outcome: SAME,
    file: 'test/integration/same-digest.test.ts',
    title: 'when Redis loses everything',
  },
  {
    fault: 'Ctrl-C',
    phase: 'under a run with local workers',
    outcome: `exit code 4; ${SAME_AFTER_RESUME}`,
    file: 'test/integration/same-digest.test.ts',
    title: 'when Ctrl-C stops the run and it is resumed',
  },
  {
    fault: 'blobs in Redis cut short or changed',
    phase: 'before the worker reads them',
    outcome: 'exit code 0; the job is done again with whole ones',
    file: 'test/integration/commands/command-failures-services.test.ts',
    title: 'whose blobs were %s: the job is retried with whole ones',
  },
  {
    fault: 'disk of the coordinator full',
    phase: 'at a checkpoint',
    outcome: 'exit code 3, the disk is full; the run goes on when there is space',
    file: 'test/integration/commands/command-failures-disk.test.ts',
    title: 'train with %i bytes of space',
  },
  {
    fault: 'disk of a worker full',
    phase: 'beside three healthy ones (workers in the process of the test)',
    outcome: 'every job has one result; the sick worker is quarantined',
    file: 'test/integration/queue/attempts.test.ts',
    title: 'does not end the run when it %s',
  },
  {
    fault: 'job that kills its workers',
    phase: 'whenever it is computed (processes, without training)',
    outcome: 'a job used up its attempts; it costs as many workers as it has attempts',
    file: 'test/integration/queue/attempts.test.ts',
    title: 'costs no more workers than it has attempts',
  },
  {
    fault: 'copy of the store damaged',
    phase: 'on one of two workers',
    outcome: 'the same results; the worker refuses its jobs',
    file: 'test/integration/queue/damaged-store.test.ts',
    title: 'the run goes on with the other worker and has the same results',
  },
];

/** Faults that the matrix lacks, so that nobody takes them for tested. */
export const NOT_COVERED: readonly string[] = [
  'A result with wrong numbers in the right layout, from a worker that lies or miscomputes, is admitted: no job is computed twice to compare.',
  'A compute process that is killed or suspended under a worker that goes on: `test/unit/worker/compute-process.test.ts` has it without a run.',
  'A disk that is full below a real `qianmo worker` that fetches a store from S3.',
  'A Redis that stays suspended for longer than a moment, is slow, or is cut half-way through a command.',
  'A failover and a full disk of Redis under a training run: `test/integration/queue/failover.test.ts` and `full-disk.test.ts` have them without training.',
  'A worker that is suspended after it has fetched its inputs.',
  'SIGTERM to a coordinator or a worker with jobs in flight.',
  'S3 that is slow or truncates its answers, and two coordinators that race on S3: `test/integration/checkpoint-s3.test.ts` has the race without training.',
];
