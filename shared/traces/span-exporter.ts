/**
 * Sends spans as OTLP in JSON over HTTP, in batches, beside the work: it holds a bounded number, and drops what a
 * receiver that is away or slow does not take.
 */

import type { Clock } from '../base/clock.js';
import { exchanged } from '../base/http-exchange.js';
import { redactedAddress } from '../base/redacted-address.js';
import type { Span } from './span.js';

export interface SpanExporterOptions {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** `qianmo-coordinator`, or `qianmo-worker`. */
  readonly service: string;
  /** That of the package, where it is known. */
  readonly version?: string | undefined;
  readonly clock: Clock;
  /** Called when a batch is lost after one that was not. */
  readonly onFailure: (failure: { readonly address: string; readonly reason: string }) => void;
}

const HELD_SPAN_COUNT_MAX = 4_096;
const BATCH_SPAN_COUNT_MAX = 512;
const BATCH_INTERVAL_MS = 1_000;
const SEND_TIMEOUT_MS = 5_000;
/** After a failure nothing is sent for a while. */
const REST_MS = 10_000;
/** The end of a run waits this long for its last spans. */
const CLOSE_TIMEOUT_MS = 2_000;

export class SpanExporter {
  readonly #options: SpanExporterOptions;
  readonly #closing = new AbortController();
  readonly #sending: Promise<void>;
  #held: Span[] = [];
  #hasFailed = false;

  constructor(options: SpanExporterOptions) {
    this.#options = options;
    this.#sending = this.#sendAtIntervals();
  }

  /** Takes a span, or drops it if too many are held. */
  readonly export = (span: Span): void => {
    if (this.#held.length < HELD_SPAN_COUNT_MAX) this.#held.push(span);
  };

  /** Sends what is held if the receiver takes it soon. */
  async close(): Promise<void> {
    this.#closing.abort();
    const isLate = new AbortController();
    await Promise.race([this.#sending, this.#options.clock.sleep(CLOSE_TIMEOUT_MS, isLate.signal)]);
    isLate.abort();
  }

  async #sendAtIntervals(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await clock.sleep(BATCH_INTERVAL_MS, signal);
      while (this.#held.length > 0 && (await this.#sendBatch()));
      if (this.#hasFailed) await clock.sleep(REST_MS, signal);
    }
  }

  /** Returns whether the receiver took it. */
  async #sendBatch(): Promise<boolean> {
    const batch = this.#held.splice(0, BATCH_SPAN_COUNT_MAX);
    const { url, headers, onFailure, clock } = this.#options;
    try {
      const request = {
        method: 'POST' as const,
        url,
        headers: { ...headers, 'Content-Type': 'application/json' },
        body: JSON.stringify(this.#requestOf(batch)),
      };
      const { status } = await exchanged(request, { clock, timeoutMs: SEND_TIMEOUT_MS });
      if (status < 200 || status > 299) throw new Error(`status ${status}`);
      this.#hasFailed = false;
      return true;
    } catch (error) {
      if (!this.#hasFailed)
        onFailure({
          address: redactedAddress(url),
          reason: error instanceof Error ? error.message : String(error),
        });
      this.#hasFailed = true;
      return false;
    }
  }

  /** `ExportTraceServiceRequest` of the OTLP specification, in its JSON mapping. */
  #requestOf(spans: readonly Span[]): object {
    const { service, version } = this.#options;
    return {
      resourceSpans: [
        {
          resource: {
            attributes: attributesOf({
              ...{ 'service.name': service, 'process.pid': process.pid },
              ...(version === undefined ? {} : { 'service.version': version }),
            }),
          },
          scopeSpans: [{ scope: { name: 'qianmo' }, spans: spans.map(spanOf) }],
        },
      ],
    };
  }
}

const SPAN_KIND_INTERNAL = 1;
const NANOSECONDS_PER_MS = 1_000_000n;
const MICROSECONDS_PER_MS = 1_000;

function spanOf({ attributes, parentSpanId, startMs, endMs, ...named }: Span): object {
  return {
    ...named,
    ...(parentSpanId === null ? {} : { parentSpanId }),
    kind: SPAN_KIND_INTERNAL,
    startTimeUnixNano: nanosecondsOf(startMs),
    endTimeUnixNano: nanosecondsOf(Math.max(startMs, endMs)),
    attributes: attributesOf(attributes),
  };
}

/** In the digits of a 64-bit integer, to the microsecond, which is what a number of this size can hold. */
function nanosecondsOf(epochMs: number): string {
  const microseconds = BigInt(Math.round(epochMs * MICROSECONDS_PER_MS));
  return String((microseconds * NANOSECONDS_PER_MS) / BigInt(MICROSECONDS_PER_MS));
}

function attributesOf(attributes: Span['attributes']): object[] {
  return Object.entries(attributes).map(([key, value]) => ({
    key,
    value:
      typeof value === 'string'
        ? { stringValue: value }
        : Number.isInteger(value)
          ? { intValue: String(value) }
          : { doubleValue: value },
  }));
}
