/** The records of runs, for programs: status, lists, logs, and waiting for the end of a run. */

import { checkedRequest } from '../../coordinator/runs/requests.js';
import {
  LogRequestSchema,
  RunsRequestSchema,
  StatusRequestSchema,
  WaitRequestSchema,
  WorkersRequestSchema,
  type LogRequest,
  type RunsRequest,
  type StatusRequest,
  type WaitRequest,
  type WorkersRequest,
} from '../../coordinator/runs/record/record-requests.js';
import type { ListedRuns } from '../../coordinator/runs/record/record-calls.js';
import type { RunStatus } from '../../coordinator/record/run-status.js';
import type { CallOptions, RunHandle } from '../../coordinator/runs/call/run-handle.js';
import type { ReportedWorker } from '../../shared/queue/job-queue.js';
import type { StampedEventSink } from '../../shared/events/run-events.js';
import { start } from './started-call.js';

const calls = () => import('../../coordinator/runs/record/record-calls.js');

/** The state and the progress of a run, from its output alone. No process of the run has to live. */
export function runStatus(request: StatusRequest, options: CallOptions = {}): RunHandle<RunStatus> {
  return start(options, async (context) =>
    (await calls()).statusOfRun(checkedRequest(StatusRequestSchema, request, 'runStatus'), context),
  );
}

/** The page of a run, as the dashboard shows it, as one HTML file that needs no server. */
export function runPageHtml(request: StatusRequest, options: CallOptions = {}): RunHandle<string> {
  return start(options, async (context) =>
    (await calls()).runAsHtml(checkedRequest(StatusRequestSchema, request, 'runPageHtml'), context),
  );
}

/** The runs whose outputs lie below folders. */
export function listRuns(request: RunsRequest, options: CallOptions = {}): RunHandle<ListedRuns> {
  return start(options, async (context) =>
    (await calls()).listRuns(checkedRequest(RunsRequestSchema, request, 'listRuns'), context),
  );
}

/** Tells the events that the record of a run holds, and with `follow` those that come, until it ends. */
export function readRunLog(
  request: LogRequest,
  tell: StampedEventSink,
  options: CallOptions = {},
): RunHandle<RunStatus> {
  return start(options, async (context) =>
    (await calls()).tellLog(checkedRequest(LogRequestSchema, request, 'readRunLog'), tell, context),
  );
}

/** Resolves when a run has finished, and throws as it failed. */
export function waitForRun(request: WaitRequest, options: CallOptions = {}): RunHandle<RunStatus> {
  return start(options, async (context) =>
    (await calls()).waitForRun(checkedRequest(WaitRequestSchema, request, 'waitForRun'), context),
  );
}

/** The workers that serve a queue, whatever run they work for. */
export function queueWorkers(
  request: WorkersRequest,
  options: CallOptions = {},
): RunHandle<readonly ReportedWorker[]> {
  return start(options, async (context) => {
    const { workersOfQueue } = await import('../../coordinator/runs/record/queue-workers.js');
    return workersOfQueue(checkedRequest(WorkersRequestSchema, request, 'queueWorkers'), context);
  });
}
