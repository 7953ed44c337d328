/** Every kind of event in words: the only place where events become text for people. */

import { formatDeviceLine } from './device-report.js';
import { counted } from '../names/counted.js';
import type { COMPUTE_END_REASONS } from './event-kinds.js';
import { OPERATION_SENTENCES } from './operation-sentences.js';
import { PREPARATION_SENTENCES } from './preparation-sentences.js';
import type { EventStamp, StampedEvent } from './run-events.js';
import { detail, notice, warning, type Sentence, type Sentences } from './sentence.js';
import { TRACKING_SENTENCES } from './tracking-sentences.js';

export function sentenceOf(event: StampedEvent): Sentence {
  // The function of an event's kind takes that event, which an index by a union does not show.
  const speak = SENTENCES[event.kind] as (event: StampedEvent) => Sentence;
  return speak(event);
}

const SENTENCES: Sentences = {
  ...OPERATION_SENTENCES,
  ...PREPARATION_SENTENCES,
  ...TRACKING_SENTENCES,
  'call-alive': ({ call, process: { host, pid } }) =>
    detail(`${call} lives, as process ${pid} on ${host}`),
  'call-ended': ({ call }) => detail(`${call} has ended`),
  'run-started': ({ runId, outerStep, outerSteps }) =>
    notice(
      outerStep === 0
        ? `run ${runId}: ${counted(outerSteps, 'outer step')}`
        : `run ${runId}: continuing after outer step ${outerStep} of ${outerSteps}`,
    ),
  'outer-step': ({ outerStep, outerSteps, queryLoss }) =>
    notice(`step ${outerStep}/${outerSteps}  loss ${queryLoss.toFixed(4)}`),
  checkpoint: ({ outerStep, address }) =>
    notice(`checkpoint of outer step ${outerStep}: ${address}`),
  'leaves-left-out': ({ outerStep, admittedLeafCount, leafCount }) =>
    detail(`outer step ${outerStep} was closed with ${admittedLeafCount} of ${leafCount} leaves`),
  'task-quarantined': ({ outerStep, task, reason }) =>
    warning(`from outer step ${outerStep} on, the run leaves out ${task}: ${reason}`),
  'run-paused': () => notice('paused: no job goes out until `qianmo resume`'),
  'run-resumed': ({ pausedMs }) => notice(`resumed after ${secondsOf(pausedMs)}`),
  'run-cancelled': () => notice('cancelled through the queue: stopping'),
  'run-extended': ({ outerSteps, earlierOuterSteps }) =>
    notice(`extended from ${earlierOuterSteps} to ${outerSteps} outer steps`),
  'orders-unreadable': ({ reason }) => warning(`the run goes on as before: ${reason}`),
  'run-validated': ({ outerStep, loss, isBest }) =>
    notice(
      `outer step ${outerStep}: validation loss ${loss.toFixed(5)}${isBest ? ', the lowest so far' : ''}`,
    ),
  'run-stopped-early': ({ outerStep, bestOuterStep, outerSteps }) =>
    notice(
      `stopped at outer step ${outerStep} of ${outerSteps}: the validation loss has not fallen since ${bestOuterStep}`,
    ),
  'run-finished': ({ outerStep, address, digest }) =>
    notice(`finished at outer step ${outerStep}: ${address}\nmeta-parameters ${digest}`),
  // The command itself prints the whole report.
  'run-failed': ({ reason }) => detail(`the run ended: ${reason}`),
  'stop-requested': () => notice('stopping; once more to stop at once'),
  'stop-failed': ({ reason }) =>
    warning(`something that was started could not be stopped: ${reason}`),
  progress: ({ stage, done, total }) =>
    notice(total === null ? `${stage}  ${done}` : `${stage}  ${done}/${total}`),
  'global-arm-started': () => notice('global arm: one model on all rows, the same system'),
  'unfinished-run-evaluated': ({ outerStep, outerSteps }) =>
    warning(
      `the run stopped at outer step ${outerStep} of ${outerSteps}; its last checkpoint is evaluated`,
    ),
  'report-written': ({ address }) => notice(`report: ${address}`),
  'trial-scored': ({ trial, outerStep, loss, validationLoss }) =>
    notice(
      `${trial} at outer step ${outerStep}: validation ${loss} ` +
        (validationLoss === null ? 'diverged' : validationLoss.toFixed(5)),
    ),
  'trial-diverged': ({ trial, reason }) => warning(`${trial} diverges and is given up: ${reason}`),
  'trial-retrained': ({ trial, outerStep, scoredOuterStep }) =>
    warning(
      `${trial} was trained to outer step ${outerStep} outside the sweep, which scores it at ` +
        `${scoredOuterStep}: it is trained again`,
    ),
  'events-dropped': ({ eventCount }) =>
    detail(`${counted(eventCount, 'event')} missing here: the reader or the disk was too slow`),
  'event-log-failed': ({ address, reason }) =>
    warning(`events cannot be logged at ${address} (${reason}); the run continues`),

  'checkpoint-damaged': ({ part, address, reason }) =>
    warning(`${part === 'pointer' ? '' : 'checkpoint '}${address}: ${reason}`),
  'checkpoint-fallback': ({ outerStep }) =>
    warning(`continuing from the checkpoint of outer step ${outerStep}, the newest that is whole`),
  'checkpoint-not-written': ({ outerStep, reason }) =>
    warning(`the checkpoint of outer step ${outerStep} could not be written: ${reason}`),
  'old-checkpoints-kept': ({ reason }) => warning(`old checkpoints were not removed: ${reason}`),
  'writes-unconditional': ({ address }) =>
    warning(`${address} ignores conditional writes: start only one coordinator of this run`),

  'job-retried': ({ jobIndex, reason }) => notice(`job ${jobIndex} is tried again: ${reason}`),
  'result-refused': ({ jobIndex, fromWorker, rejection }) =>
    detail(`the result of worker ${fromWorker} for job ${jobIndex} is refused: ${rejection}`),
  'results-admitted': ({ outerStep, admittedJobCount, jobCount }) =>
    detail(
      `${admittedJobCount} of ${counted(jobCount, 'job')} of outer step ${outerStep} have a result`,
    ),
  'job-copied': ({ outerStep, jobIndex, slowWorker, heldMs }) =>
    notice(
      `job ${jobIndex} of outer step ${outerStep} has been with ${slowWorker} for ${secondsOf(heldMs)}: an idle worker gets a copy`,
    ),
  'result-late': ({ outerStep, jobIndex, fromWorker, lateMs }) =>
    detail(
      `job ${jobIndex} of outer step ${outerStep} came from ${fromWorker} ${secondsOf(lateMs)} too late`,
    ),
  'lease-awaited': ({ address, host, waitMs }) =>
    notice(
      `an earlier coordinator on ${host} has not given the run back (${address}); waiting up to ${secondsOf(waitMs)} for a sign of life`,
    ),
  'leftover-jobs-removed': ({ jobCount }) =>
    notice(`removed ${counted(jobCount, 'waiting job')} of an earlier start`),
  'redis-away': ({ address, reason }) =>
    warning(`Redis at ${address} does not answer (${reason}); waiting for it`),
  'redis-back': ({ awayMs }) => notice(`Redis is back after ${secondsOf(awayMs)}`),
  'object-store-away': ({ address, reason }) =>
    warning(`the object store at ${address} fails (${reason}); waiting for it`),
  'object-store-back': ({ awayMs }) =>
    notice(`the object store is back after ${secondsOf(awayMs)}`),
  'redis-refuses': ({ address, reason, cure, waitMs }) =>
    warning(
      `Redis at ${address} refuses to write (${reason}); waiting up to ${secondsOf(waitMs)}. ` +
        `Cure: ${cure}.`,
    ),
  'redis-accepts': ({ refusedMs }) =>
    notice(`Redis accepts writes again after ${secondsOf(refusedMs)}`),
  'workers-awaited': ({ redisAddress, addressFile, prefix, places = [] }) =>
    notice(
      'waiting for workers; start some with: ' +
        (addressFile === null
          ? `qianmo worker --redis ${redisAddress}`
          : `QIANMO_REDIS_URL=$(cat ${addressFile}) qianmo worker`) +
        ` --prefix '${prefix}'` +
        (places.length === 0 ? '' : ` --store-allow '${places.join(',')}'`),
    ),
  'workers-missing': ({ openJobCount }) =>
    warning(
      `${counted(openJobCount, 'job')} waiting and no worker is connected: start one with qianmo worker`,
    ),
  'worker-refused': ({ refusingWorker, reason }) =>
    warning(
      `worker ${refusingWorker} refuses the jobs of this run and leaves them to others: ${reason}`,
    ),
  'worker-quarantined': ({ quarantinedWorker, reason, quarantineMs }) =>
    warning(
      `worker ${quarantinedWorker} is sick and takes no job for ${secondsOf(quarantineMs)}: ${reason}`,
    ),
  'worker-distrusted': ({ distrustedWorker, outerStep, jobIndex, reason }) =>
    warning(
      `worker ${distrustedWorker} lies or is broken, and nothing of it is used any more: ${reason} ` +
        `(outer step ${outerStep}, job ${jobIndex}); what it computed before was used`,
    ),
  'results-disagree': ({ outerStep, jobIndex, workers }) =>
    warning(
      `workers ${workers.join(' and ')} gave different results of job ${jobIndex} of outer step ` +
        `${outerStep}; a third one decides, so at least three have to be connected`,
    ),
  'job-not-recomputed': ({ jobIndex, reason }) =>
    detail(`job ${jobIndex} is not computed by a second worker: ${reason}`),
  'outer-step-retaken': ({ outerStep, reason }) =>
    warning(`the outer step after ${outerStep} is taken again: ${reason}`),
  'fingerprint-taken': ({ fingerprint, fromWorker }) =>
    detail(`the run computes on ${fingerprint}, as worker ${fromWorker} does`),
  'fingerprint-changed': ({ outerStep, fingerprint, earlier }) =>
    warning(
      `the run continues on ${fingerprint} after outer step ${outerStep}, as its config demands; ` +
        `it was computed on ${earlier} before, and its digest is that of neither kind alone`,
    ),
  'queue-board-served': ({ url }) => notice(`dashboard: ${url}`),

  'worker-ready': (event) =>
    notice(
      `${workerOf(event)} (process ${event.pid}) takes jobs from ${event.server} at ${event.redisAddress}`,
    ),
  'worker-renamed': (event) =>
    warning(
      `${workerOf(event)} shares its name with another worker, so the queue calls it ${event.nameOnQueue}`,
    ),
  'worker-stopped': (event) => detail(`${workerOf(event)} stopped`),
  'worker-resting': (event) =>
    detail(`${workerOf(event)} takes no job for ${secondsOf(event.restMs)}`),
  'worker-exited': (event) =>
    warning(
      `${workerOf(event)} ended: ${event.reason ?? endOf(event)}` +
        (event.lastWords === '' ? '' : `; its last words: ${event.lastWords}`),
    ),
  'worker-restarted': (event) => notice(`${workerOf(event)} is started again`),
  'worker-given-up': (event) =>
    warning(`${workerOf(event)} is not started again: ${event.restartCount} restarts are used up`),
  'worker-misunderstood': (event) =>
    warning(`${workerOf(event)} sent a message that is not an event: ${event.reason}`),
  'redis-trouble': (event) => warning(`${prefixOf(event)}${event.reason}`),
  'job-started': (event) => detail(`${prefixOf(event)}job ${event.jobId} started`),
  'job-finished': (event) =>
    detail(`${prefixOf(event)}job ${event.jobId} computed in ${Math.round(event.computeMs)} ms`),
  'job-failed': (event) =>
    detail(`${prefixOf(event)}job ${event.jobId} failed: ${event.failure}: ${event.reason}`),
  'job-handed-back': (event) =>
    detail(`${prefixOf(event)}job ${event.jobId} handed back to the queue`),

  'compute-started': (event) =>
    detail(`${prefixOf(event)}compute process ${event.pid} is starting`),
  'compute-wrote': (event) => {
    const { line, leftOutCount } = event;
    const leftOut =
      leftOutCount === undefined ? '' : ` (${counted(leftOutCount, 'line')} before it left out)`;
    return notice(`${prefixOf(event)}${line}${leftOut}`);
  },
  'compute-ready': (event) =>
    notice(`${sourceOf(event) ?? 'this process'} computes on ${formatDeviceLine(event.device)}`),
  'compute-ended': (event) => {
    const { endedBecause } = event;
    const isExpected =
      endedBecause !== null &&
      ['closed', 'replaced', 'aborted', 'other-instructions'].includes(endedBecause);
    const reason = endedBecause === null ? endOf(event) : COMPUTE_ENDS[endedBecause];
    const text = `${prefixOf(event)}the compute process ended: ${reason}`;
    return isExpected ? detail(text) : warning(text);
  },
  'compute-replaced': (event) =>
    warning(
      `${prefixOf(event)}the compute process is replaced after ${counted(event.jobCount, 'job')}: ` +
        `it holds ${mebibytes(event.residentByteCount)}, more than ${mebibytes(event.residentByteCountMax)}`,
    ),
  'backend-portable': (event) =>
    warning(
      `${prefixOf(event)}native TensorFlow did not load, so jobs run on a slow portable backend ` +
        `(${event.refusals.join('; ')}). Cure: ${event.cure}.`,
    ),
  'job-progress': (event) => {
    const { jobIndex, phase, microBatch } = event;
    const doing =
      microBatch === undefined ? phase : `micro-batch ${microBatch.number} of ${microBatch.count}`;
    return detail(`${prefixOf(event)}job ${jobIndex} of outer step ${event.outerStep}: ${doing}`);
  },

  'server-ready': ({ url, bundle, scorer }) =>
    notice(`serving bundle ${shortDigest(bundle)} at ${url}, scored by ${scorer}`),
  'bundle-served': ({ bundle, earlierBundle, loadMs }) =>
    notice(
      `serving bundle ${shortDigest(bundle)} in place of ${shortDigest(earlierBundle)}, ` +
        `read in ${secondsOf(loadMs)}`,
    ),
  'bundle-refused': ({ bundle, reason }) =>
    warning(`bundle ${shortDigest(bundle)} is refused, and the earlier one stays: ${reason}`),
  'canary-served': ({ bundle, share, loadMs }) =>
    notice(
      `canary ${shortDigest(bundle)} answers ${100 * share} % of requests, read in ${secondsOf(loadMs)}`,
    ),
  'canary-refused': ({ bundle, reason }) =>
    warning(`canary ${shortDigest(bundle)} is refused and answers nothing: ${reason}`),
  'canary-ended': ({ bundle }) => notice(`canary ${shortDigest(bundle)} answers no more`),
  'label-unread': ({ label, reason }) =>
    warning(`the label ${label} cannot be read, and is tried again: ${reason}`),
  'exploration-failed': ({ reason }) =>
    warning(`ranking without exploration until its state works again: ${reason}`),
  'exploration-restored': () => notice('exploring again'),
  'server-process-ended': ({ place, pid, exitCode, signal, reason, restartMs }) =>
    warning(
      `process ${place} of the server (pid ${pid}) ended with ${signal ?? `code ${exitCode}`}` +
        `${reason === null ? '' : `: ${reason}`}; it is started again in ${secondsOf(restartMs)}`,
    ),
  'state-owner-watched': ({ owner, silenceMs }) =>
    notice(`the folder of the state is of ${owner}: waiting ${secondsOf(silenceMs)} for its signs`),
  'server-draining': ({ requestCount }) =>
    notice(`stopping after ${counted(requestCount, 'request')} under way`),
  'request-failed': ({ reason }) =>
    warning(`a request ran into a bug, please report it: ${reason}`),
};

function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}

const COMPUTE_ENDS: Readonly<Record<(typeof COMPUTE_END_REASONS)[number], string>> = {
  deadline: 'its job passed the deadline',
  silent: 'it stopped responding',
  aborted: 'its job was aborted',
  'bad-message': 'it sent an invalid message',
  'lost-channel': 'the channel to it broke',
  'not-started': 'it did not start',
  replaced: 'another one replaces it',
  'other-instructions': 'the next job needs another instruction set',
  closed: 'it was closed',
};

/** Null for an event of the coordinator. */
function sourceOf({ worker, workerIndex }: EventStamp): string | null {
  if (workerIndex !== undefined) return `worker ${workerIndex + 1}`;
  return worker === undefined ? null : `worker ${worker}`;
}

function workerOf(stamp: EventStamp): string {
  return sourceOf(stamp) ?? 'the worker';
}

function prefixOf(stamp: EventStamp): string {
  const source = sourceOf(stamp);
  return source === null ? '' : `${source}: `;
}

function endOf(end: { readonly exitCode: number | null; readonly signal: string | null }): string {
  return end.signal === null ? `exit code ${end.exitCode ?? 'unknown'}` : `signal ${end.signal}`;
}

function secondsOf(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`;
}

function mebibytes(byteCount: number): string {
  return `${Math.round(byteCount / 2 ** 20)} MiB`;
}
