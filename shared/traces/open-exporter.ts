/** The exporter that the environment asks for. Its code is loaded where there is one. */

import { warningEvent, type RunEvent } from '../events/run-events.js';
import type { SpanExporter, SpanExporterOptions } from './span-exporter.js';
import { traceSettingsOf } from './trace-settings.js';

interface OpenedExporter {
  readonly exporter: SpanExporter;
  /** The share of outer steps whose traces are kept. */
  readonly keptShare: number;
}

/**
 * Null where nobody asks for traces.
 *
 * @throws QianmoError of kind `usage` if a variable has no sense.
 */
export async function openSpanExporter(
  environment: Readonly<Record<string, string | undefined>>,
  options: Omit<SpanExporterOptions, 'url' | 'headers'>,
): Promise<OpenedExporter | null> {
  const settings = traceSettingsOf(environment, options.service);
  if (settings === null) return null;
  const { SpanExporter } = await import('./span-exporter.js');
  const { keptShare, ...place } = settings;
  return { exporter: new SpanExporter({ ...options, ...place }), keptShare };
}

/** Told once. Spans are dropped until the receiver takes them again. */
export function tracesFailed({
  address,
  reason,
}: Parameters<SpanExporterOptions['onFailure']>[0]): RunEvent {
  const text = `traces cannot be sent to ${address} (${reason}); the work continues without them`;
  return warningEvent('traces-failed', text);
}
