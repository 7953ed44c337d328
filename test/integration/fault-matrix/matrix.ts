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
  'while its workers compute',
  'while it reads a result',
  'while it writes a checkpoint',
];

export const CELLS: readonly FaultCell[] = [
  ...cellsOf('worker-processes.test.ts', [
    ['worker killed', WORKER_PHASES, SAME],
    [
      'worker suspended',
      WORKER_PHASES.filter((phase) => phase !== 'while its compute process has the job'),
      `${SAME}; its late result is refused`,
    ],
    [
      'worker asked to stop by SIGTERM',
      ['with a job in flight'],
      `${SAME}; the job is handed back`,
    ],
    ['compute process killed', ['while it has a job'], SAME],
    ['compute process suspended', ['while it has a job, for good'], SAME],
  ]),
  ...cellsOf('coordinators.test.ts', [
    ['coordinator killed', COORDINATOR_PHASES, SAME_AFTER_RESUME],
    ['coordinator suspended', COORDINATOR_PHASES, SAME],
    [
      'coordinator asked to stop by SIGTERM',
      ['with a job in flight'],
      `exit code 4; ${SAME_AFTER_RESUME}`,
    ],
    ['clock skewed', ['coordinator an hour ahead, worker an hour behind'], SAME],
  ]),
  ...cellsOf('redis.test.ts', [
    [
      'Redis suspended',
      ['for a moment, with a job in flight', 'until its silence is noticed'],
      SAME,
    ],
    ['Redis killed and started again', ['with a job in flight'], SAME],
    ['Redis fails over to a replica', ['with a job in flight'], SAME],
    ['Redis has a full disk', ['with a job in flight'], `${SAME}; the run waits for space`],
    ['Redis slowed', ['at every command'], SAME],
    [
      'connection to Redis cut',
      [
        'half-way through jobs that are added',
        'half-way through the reply to jobs that are added',
        'half-way through a result that is read',
        'half-way through an output that is put',
        'half-way through the reply to a result',
      ],
      SAME,
    ],
  ]),
  ...cellsOf('object-store.test.ts', [
    ['S3 answers 500 twice', ['to a blob'], SAME],
    ['S3 answers 503 twice', ['to a manifest'], SAME],
    ['S3 loses its reply', ['to a blob', 'to a manifest'], SAME],
    ['S3 slow', ['on a resume'], SAME_AFTER_RESUME],
    ['S3 truncates its answers', ['on a resume'], SAME_AFTER_RESUME],
    [
      'race for a run on S3',
      ['lost while a checkpoint is sent'],
      'exit code 1, another coordinator has taken over this run',
    ],
    [
      'disk of a worker full',
      ['when it fetches the store from S3'],
      `${SAME}; the worker refuses its jobs`,
    ],
    ['S3 answers 500', ['to a manifest, longer than the SDK tries'], SAME],
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
    title: 'when Redis loses everything, restarts, and is killed and loses its last second',
  },
  {
    fault: 'Redis loses everything',
    phase: 'in the middle of a job',
    outcome: SAME,
    file: 'test/integration/same-digest.test.ts',
    title: 'when Redis loses everything, restarts, and is killed and loses its last second',
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
    fault: 'second coordinator',
    phase: 'on the same Redis',
    outcome: 'exit code 2; the first one goes on',
    file: 'test/integration/commands/two-coordinators.test.ts',
    title: 'a second one on the same Redis stops at once and harms nothing',
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
  'Workers that lie together: two that agree are believed.',
];
