/**
 * The failures of a queue that its users treat in a way of their own. An implementation turns the
 * errors of its server into them, so that no user of a queue reads the words of a library.
 */

import { QianmoError, type FailureReport } from '../base/errors.js';

type Report = Omit<FailureReport, 'kind' | 'found'> & { readonly found: string };

/**
 * The queue's server is away: it cannot be reached, it loads its data, or it fails over. The same
 * call may succeed once the server is back.
 */
export class QueueUnavailableError extends QianmoError {
  constructor(report: Report) {
    super({ kind: 'transient', ...report });
  }

  /** The words of the server or of the operating system. */
  get reason(): string {
    return this.report.found ?? this.message;
  }
}

/**
 * - `disk`, `memory`: the server is full. The same call may succeed once there is room.
 * - `permission`: the user of the server may not do this.
 * - `other`: a refusal for another reason.
 */
export type Refusal = 'disk' | 'memory' | 'permission' | 'other';

/** The queue's server answers, and refuses. */
export class QueueRefusedError extends QianmoError {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, report: Report & { readonly cure: string }) {
    super({ kind: 'environment', ...report });
    this.refusal = refusal;
  }

  /** The words of the server. */
  get reason(): string {
    return this.report.found ?? this.message;
  }

  get cure(): string {
    return this.report.cure ?? '';
  }

  /** Whether the same call may succeed once somebody has made room. */
  get mayPass(): boolean {
    return this.refusal === 'disk' || this.refusal === 'memory';
  }
}

/** Whether the same call may succeed later, with nothing changed about the call. */
export function mayPass(error: unknown): error is QueueUnavailableError | QueueRefusedError {
  return (
    error instanceof QueueUnavailableError || (error instanceof QueueRefusedError && error.mayPass)
  );
}
