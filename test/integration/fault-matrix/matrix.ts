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
    ['worker suspended', WORKER_PHASES, `${SAME}; its late result is refused`],
  ]),
  ...cellsOf('coordinators-and-redis.test.ts', [
    ['coordinator killed', COORDINATOR_PHASES, SAME_AFTER_RESUME],
    ['coordinator suspended', COORDINATOR_PHASES, SAME],
    [
      'SIGTERM',
      ['to a coordinator with jobs in flight'],
      `exit code 4, the last outer step is safe; ${SAME_AFTER_RESUME}`,
    ],
    ['SIGTERM', ['to a worker with a job in flight'], `${SAME}, without an attempt`],
    ['clock skewed', ['coordinator an hour ahead, worker an hour behind'], SAME],
    ['Redis suspended', ['between outer steps'], SAME],
    ['Redis killed and restarted', ['with jobs in flight'], SAME],
    ['Redis fails over to a replica', ['between outer steps'], SAME],
    ['Redis full', ['and freed before the wait ends'], SAME],
    [
      'Redis full',
      ['for longer than the wait'],
      `exit code 3, Redis refuses to write; ${SAME_AFTER_RESUME}`,
    ],
    ['Redis slow', ['20 ms for each exchange of the coordinator'], SAME],
    [
      'connection of the coordinator cut',
      [
        'half-way through the inputs of a job',
        'half-way through the jobs',
        'before the reply to the jobs',
      ],
      SAME,
    ],
    [
      'connection of the worker cut',
      ['half-way through an output', 'before the reply to a result'],
      SAME,
    ],
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
      'poison task',
      ['that fails wherever it is computed'],
      'exit code 1, a task makes its job fail',
    ],
    ['sick worker', ['beside a healthy one'], SAME],
  ]),
];

export const CELLS_ELSEWHERE: readonly CoveredElsewhere[] = [];
