/** Verbs of runs under way: workers, records, control and pages. */

import type { CancelResult } from '../../coordinator/runs/cancel-run.js';
import type { ListedRuns } from '../../coordinator/runs/record-calls.js';
import { FORMAT, oneOf } from '../../coordinator/runs/request-fields.js';
import { REQUESTS } from '../../coordinator/runs/requests.js';
import { boundedRate } from '../../shared/events/event-log.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import { WorkRequestSchema } from './requests.js';
import { call, service, type Shown } from './verb.js';

const records = () => import('../../coordinator/runs/record-calls.js');
const cancelling = () => import('../../coordinator/runs/cancel-run.js');
const documents = () => import('../../coordinator/reports/run-documents.js');

function cancelTexts(result: CancelResult): Shown {
  const { run, state, outerStep, outerSteps, coordinator } = result;
  const steps = outerStep === null ? '' : ` after outer step ${outerStep} of ${outerSteps ?? '?'}`;
  const where = `process ${coordinator.pid} on ${coordinator.host}`;
  const verb = state === 'ended' ? 'has stopped' : 'is stopping';
  return { text: `run ${run} ${verb}${steps} (${where})`, json: result };
}

/** Runs a worker, which takes jobs of any run from the queue. Resolves when `options.signal` aborts. */
export const work = call('work', {
  request: WorkRequestSchema,
  about: 'compute jobs of any run from the queue until stopped',
  command: 'worker',
  extra: {
    format: oneOf(
      ['text', 'json'],
      '<format> text: events as sentences on standard error; json: one event per line on standard output',
    ).default('text'),
  },
  plugins: true,
  watched: 'metrics',
  help: `
Examples:
  qianmo worker --redis redis://10.0.0.5:6379 --log worker.ndjson
  qianmo worker --redis redis://10.0.0.5:6379 --prefix '{nightly}=1,{urgent}=3'
  qianmo worker --redis redis://10.0.0.5:6379 --store-allow s3://clicks/stores,/data/stores`,
  untilStopped: true,
  run: async () => {
    const { workUntilStopped } = await import('./work.js');
    const notLocal = { portable: false, stores: [], endpoints: [] };
    return (request, context) => workUntilStopped(request, notLocal, context);
  },
  onEvent: ({ format }, { clock, print }) =>
    Promise.resolve(
      format === 'json' ? boundedRate(clock, (event) => print(encodeEvent(event))) : null,
    ),
});

/** The runs whose outputs lie below folders. */
export const listRuns = call('listRuns', {
  request: REQUESTS.runs,
  about: 'list the runs below folders, the latest first',
  command: 'runs',
  operands: ['folders'],
  help: `
A run in a bucket is named by its whole s3:// prefix.
Example:
  qianmo runs runs s3://models/movielens`,
  run: async () => (await records()).listRuns,
  show: async ({ runs, isCut }: ListedRuns) => (await documents()).runsDocument(runs, isCut),
});

/** The state and the progress of a run, from its output alone. No process of the run has to live. */
export const runStatus = call('runStatus', {
  request: REQUESTS.status,
  about: 'say how far a run is, from its output alone',
  command: 'status',
  operands: ['run'],
  help: `
States: running, waiting for workers, stalled, finished, failed, interrupted, lost. The exit code is 0
whatever the state is; \`qianmo wait\` ends as the run does.
Example:
  qianmo status runs/movielens`,
  run: async () => (await records()).statusOfRun,
  show: async (status) => (await documents()).statusDocument(status),
});

/** Passes the events that the record of a run holds to `onEvent`; with `follow` also later ones, until it ends. */
export const readRunLog = call('readRunLog', {
  request: REQUESTS.log,
  about: 'print the events of a run',
  command: 'logs',
  operands: ['run'],
  extra: { format: FORMAT },
  help: `
Events of workers on other machines are in their own logs (qianmo worker --log).
Example:
  qianmo logs runs/movielens --last 20 --follow`,
  run: async () => (await records()).tellLog,
  onEvent: async ({ format }, { print }) => {
    const { logLine } = await documents();
    return (event) => print(logLine(event, format));
  },
});

/** Resolves when a run has finished, and throws as it failed. */
export const waitForRun = call('waitForRun', {
  request: REQUESTS.wait,
  about: 'wait until a run has ended',
  command: 'wait',
  operands: ['run'],
  help: `
Exit codes: 0 finished, 1 failed, 3 still under way after the time limit or ended for want of something outside,
4 interrupted or lost, 5 cancelled; both are resumable.
Example:
  qianmo wait runs/movielens --timeout-seconds 3600`,
  run: async () => (await records()).waitForRun,
  show: async (status) => (await documents()).statusDocument(status),
});

/** The workers that serve a queue, whatever run they work for. */
export const queueWorkers = call('queueWorkers', {
  request: REQUESTS.workers,
  about: 'list the workers that serve a queue, and the job that each of them holds',
  command: 'workers',
  help: '\nExample:\n  qianmo workers --redis redis://10.0.0.5:6379',
  run: async () => (await cancelling()).workersOfQueue,
  show: async (workers, _extra, { clock }) =>
    (await documents()).workersDocument(workers, clock.epochMs()),
});

/**
 * Stops a run, which loses the outer step under way and can be resumed by training it again. The call that trains it
 * rejects with a QianmoError of kind `cancelled`.
 */
export const cancel = call('cancel', {
  request: REQUESTS.cancel,
  about: 'stop a run so that it can be continued later',
  operands: ['run'],
  help: `
The last complete outer step is written, and the coordinator ends with exit code 5, so that no cluster starts it again.
The command waits for that, up to 16 s. It ends with exit code 1 if the run finished before that.
Examples:
  qianmo cancel movielens --redis redis://10.0.0.5:6379
  qianmo train movielens.yaml --resume`,
  run: async () => (await cancelling()).cancelRun,
  show: cancelTexts,
});

/** Serves pages about runs, from their records, their queue or both. The caller closes it. */
export const serveDashboard = service('serveDashboard', {
  request: REQUESTS.board,
  about: 'serve pages about runs, their workers and their queue',
  command: 'dashboard',
  help: `
Pages are made from the records of runs (--runs), their queue (--redis), ranking servers (--servers), or several of them.
They change nothing unless --allow-control is given.
Examples:
  qianmo dashboard --runs runs
  qianmo dashboard --runs runs,s3://models/runs --redis redis://127.0.0.1:6379 --port 3000
  qianmo dashboard --servers http://127.0.0.1:9464
  qianmo dashboard --runs runs --rankings http://127.0.0.1:8080`,
  open: async () => (await import('./dashboard.js')).openDashboard,
  show: ({ url }) => ({ text: `dashboard: ${url} (Ctrl-C stops it)`, json: { url } }),
});
