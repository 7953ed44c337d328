/**
 * The failure of a queue that its users treat in a way of their own. An implementation turns the
 * errors of its server into it, so that no user of a queue reads the words of a library.
 */

import { QianmoError, type FailureReport } from '../base/errors.js';

/** The queue's server is away. The same call may succeed once the server is back. */
export class QueueUnavailableError extends QianmoError {
  constructor(report: Omit<FailureReport, 'kind' | 'found'> & { readonly found: string }) {
    super({ kind: 'transient', ...report });
  }

  /** The words of the server or of the operating system. */
  get reason(): string {
    return this.report.found ?? this.message;
  }
}
