/**
 * The failures that a user or operator can meet, and the exit code of each kind. A violated invariant is
 * a bug and not one of them; it is thrown as a plain `Error` and never caught.
 */

import { printableText } from './printable-text.js';

/**
 * - `usage`: the command line or the config is wrong; nothing was started.
 * - `environment`: something outside is missing or refuses to work (Redis, disk, credentials).
 * - `data`: an input, store, blob or checkpoint is not what it must be.
 * - `transient`: a retry may succeed.
 * - `failed`: the work itself could not be completed.
 * - `interrupted`: stopped by a signal, as clusters do; can be resumed, and should be.
 * - `cancelled`: stopped by an order of somebody who wants it to stay so; can be resumed when that person asks for it.
 * - `taken`: another coordinator has the run. A later try finds the run free, or done.
 */
export const FAILURE_KINDS = [
  'usage',
  'environment',
  'data',
  'transient',
  'failed',
  'interrupted',
  'cancelled',
  'taken',
] as const;
export type FailureKind = (typeof FAILURE_KINDS)[number];

export const EXIT_CODE_BY_KIND: Readonly<Record<FailureKind, number>> = {
  failed: 1,
  data: 1,
  usage: 2,
  environment: 3,
  transient: 3,
  interrupted: 4,
  cancelled: 5,
  taken: 6,
};

/** A failure in parts: what happened, where, what was expected and found, and what to do about it. */
export interface FailureReport {
  readonly kind: FailureKind;
  /** One sentence, without a final full stop: "the label is neither 0 nor 1". */
  readonly what: string;
  /** File and line, config path, key or address. */
  readonly where?: string;
  readonly expected?: string;
  readonly found?: string;
  /** An instruction the reader can follow. */
  readonly cure?: string;
  /** Set if another machine may succeed, because this one lacks the device or cannot read the store. */
  readonly isOfThisMachine?: true;
  readonly cause?: unknown;
}

export class QianmoError extends Error {
  readonly kind: FailureKind;
  readonly report: FailureReport;

  constructor(report: FailureReport) {
    super(
      report.where === undefined ? report.what : `${report.what} (${report.where})`,
      report.cause === undefined ? {} : { cause: report.cause },
    );
    this.name = 'QianmoError';
    this.kind = report.kind;
    this.report = report;
  }

  get exitCode(): number {
    return EXIT_CODE_BY_KIND[this.kind];
  }
}

/** Every failure has a kind and says what happened; the rest is what is known. */
export function errorOf(
  kind: FailureKind,
  what: string,
  known: Omit<FailureReport, 'kind' | 'what'> = {},
): QianmoError {
  return new QianmoError({ kind, what, ...known });
}

/** The numbers became infinite. A search over settings drops such a setting; nothing else is at fault. */
export class DivergenceError extends QianmoError {}

/** A failure that another machine may not have. Transient ones pass by themselves. */
export function ofThisMachine(error: unknown): unknown {
  if (!(error instanceof QianmoError) || error.kind === 'transient') return error;
  return new QianmoError({ ...error.report, isOfThisMachine: true });
}

/**
 * Whether the work was stopped on request, by a signal or an order. An aborted signal alone does not say so: another failure, or
 * a bug, may have come first.
 */
export function isInterruption(error: unknown): error is QianmoError {
  return error instanceof QianmoError && isInterruptionKind(error.kind);
}

export function isInterruptionKind(kind: string): kind is 'interrupted' | 'cancelled' {
  return kind === 'interrupted' || kind === 'cancelled';
}

/** The report as text for people, with one labelled line for each known part. */
export function formatFailure(error: QianmoError): string {
  const { what, where, expected, found, cure, cause } = error.report;
  const lines = [`error: ${what}`];
  if (where !== undefined) lines.push(`  where:    ${where}`);
  if (expected !== undefined) lines.push(`  expected: ${expected}`);
  // If `found` is a list, it begins on a line of its own.
  if (found !== undefined) lines.push(`  found:${found.startsWith('\n') ? '' : '    '}${found}`);
  if (cause instanceof Error && cause.message !== found) lines.push(`  because:  ${cause.message}`);
  if (cure !== undefined) lines.push(`  cure:     ${cure}`);
  return printableText(lines.join('\n'));
}

/** Makes an exhaustive `switch` a compile-time promise. */
export function assertNever(value: never): never {
  throw new Error(`unreachable value ${JSON.stringify(value)}`);
}
