import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { SpanExporter } from '../../../shared/traces/span-exporter.js';
import {
  placeIn,
  type Span,
  spanBelow,
  StepTraces,
  traceparentOf,
} from '../../../shared/traces/span.js';
import { stepSpanSink } from '../../../shared/traces/step-spans.js';
import { traceSettingsOf } from '../../../shared/traces/trace-settings.js';
import { JobTrace } from '../../../worker/carrying/carry-job.js';

const clockAt = (nowMs: { value: number }) => ({ ...systemClock, epochMs: () => nowMs.value });

describe('the trace of an outer step', () => {
  it('joins coordinator, job and compute process through the job alone', () => {
    const traces = new StepTraces('0011223344556677', 1);
    const spans: Span[] = [];
    const traceparent = traceparentOf(traces.placeOf('r', 4) ?? { traceId: '', spanId: '' });
    expect(traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);

    const now = { value: 1_050 };
    const job = { jobId: 'r-gradient-4-0-a1', traceparent, addedMs: 1_010 };
    const trace = JobTrace.of(job, clockAt(now), (span) => spans.push(span));
    now.value = 1_060;
    trace?.ended('fetch', 8);
    const place = placeIn(trace?.traceparent) ?? { traceId: '', spanId: '' };
    trace?.took(spanBelow(place, 'compute', { startMs: 1_061, endMs: 1_090 }));
    now.value = 1_100;
    trace?.end('finished', 'w');
    stepSpanSink(traces, (span) => spans.push(span))({
      ...{ kind: 'outer-step-timed', outerStep: 5, startedMs: 1_000, epochMs: 1_120, runId: 'r' },
      ...{ jobCount: 1, taskCount: 8, workerCount: 1 },
      phasesMs: {
        ...{ sample: 2, pack: 3, queue: 9, fetch: 8, compute: 29 },
        ...{ upload: 1, aggregate: 4, optimise: 5, checkpoint: 6 },
      },
    });

    const named = new Map(spans.map((span) => [span.name, span]));
    const root = named.get('outer step');
    const ofJob = named.get('job');
    expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1);
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
    expect(root).toMatchObject({ parentSpanId: null, startMs: 1_000, endMs: 1_120 });
    expect(ofJob).toMatchObject({ parentSpanId: root?.spanId, startMs: 1_010, endMs: 1_100 });
    expect(named.get('queue')).toMatchObject({
      ...{ parentSpanId: ofJob?.spanId, startMs: 1_010, endMs: 1_050 },
    });
    expect(named.get('fetch')).toMatchObject({ startMs: 1_052, endMs: 1_060 });
    expect(named.get('compute')).toMatchObject({ parentSpanId: ofJob?.spanId });
    // The first phases follow the start, the last ones end with the outer step.
    expect(named.get('pack')).toMatchObject({
      ...{ parentSpanId: root?.spanId, startMs: 1_002, endMs: 1_005 },
    });
    expect(named.get('optimise')).toMatchObject({ startMs: 1_109, endMs: 1_114 });
    expect(named.get('checkpoint')).toMatchObject({ startMs: 1_114, endMs: 1_120 });
  });

  it('is kept for a share of the outer steps, the same in every process', () => {
    const kept = (share: number): number =>
      Array.from({ length: 1_000 }, (_, step) =>
        new StepTraces('n', share).placeOf('r', step),
      ).filter((place) => place !== null).length;
    expect([kept(0), kept(1)]).toEqual([0, 1_000]);
    expect(kept(0.1)).toBeGreaterThan(60);
    expect(kept(0.1)).toBeLessThan(140);
    expect(JobTrace.of(null, systemClock, () => undefined)).toBeNull();
    const job = { jobId: 'j', addedMs: 0 };
    for (const traceparent of ['', '00-1-2-01', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`])
      expect(JobTrace.of({ ...job, traceparent }, systemClock, () => undefined)).toBeNull();
  });

  it('is sent only where the environment asks for it', () => {
    expect(traceSettingsOf({}, 'qianmo-worker')).toBeNull();
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/' };
    expect(traceSettingsOf({ ...endpoint, OTEL_SDK_DISABLED: 'true' }, 'q')).toBeNull();
    expect(
      traceSettingsOf(
        {
          ...endpoint,
          OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20x, tenant=a',
          OTEL_TRACES_SAMPLER_ARG: '0.25',
        },
        'qianmo-worker',
      ),
    ).toEqual({
      url: 'http://collector:4318/v1/traces',
      headers: { authorization: 'Bearer x', tenant: 'a' },
      service: 'qianmo-worker',
      keptShare: 0.25,
    });
    for (const wrong of [
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' },
      { ...endpoint, OTEL_TRACES_SAMPLER_ARG: '2' },
      { ...endpoint, OTEL_EXPORTER_OTLP_HEADERS: 'x' },
      { ...endpoint, OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer 50%' },
    ])
      expect(() => traceSettingsOf(wrong, 'q')).toThrow('traces cannot be sent');
  });
});

const span: Span = {
  ...{ traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentSpanId: null, name: 'job' },
  ...{ startMs: 1_764_230_400_000.25, endMs: 1_764_230_400_001, attributes: { 'qianmo.jobs': 4 } },
};

describe('the exporter of spans', () => {
  it('sends OTLP in JSON, and what it holds when it closes', async () => {
    const received: unknown[] = [];
    const server = createServer((request, response) => {
      let text = '';
      request.on('data', (part: Buffer) => (text += part.toString()));
      request.on('end', () => {
        received.push(JSON.parse(text));
        response.end('{}');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    // Only pipes have an address without a port.
    const { port } = server.address() as AddressInfo;
    const failures: unknown[] = [];
    const exporter = new SpanExporter({
      ...{ url: `http://127.0.0.1:${port}/v1/traces`, headers: {}, service: 's', version: '1' },
      ...{ clock: systemClock, onFailure: (failure) => failures.push(failure) },
    });
    exporter.export(span);
    await exporter.close();
    await new Promise((resolve) => server.close(resolve));
    expect(failures).toEqual([]);
    expect(received).toMatchObject([
      {
        resourceSpans: [
          {
            scopeSpans: [
              {
                spans: [
                  {
                    ...{ traceId: span.traceId, spanId: span.spanId, name: 'job', kind: 1 },
                    startTimeUnixNano: '1764230400000250000',
                    endTimeUnixNano: '1764230400001000000',
                    attributes: [{ key: 'qianmo.jobs', value: { intValue: '4' } }],
                  },
                ],
              },
            ],
          },
        ],
      },
    ]);
  });

  it('tells once that nobody takes them, and holds nobody up', async () => {
    const failures: unknown[] = [];
    const exporter = new SpanExporter({
      // Port 9 discards, and nothing listens there.
      ...{ url: 'http://127.0.0.1:9/v1/traces', headers: {}, service: 's', version: '1' },
      ...{ clock: systemClock, onFailure: (failure) => failures.push(failure) },
    });
    for (let count = 0; count < 10_000; count += 1) exporter.export(span);
    await exporter.close();
    expect(failures).toHaveLength(1);
    expect(failures[0]).toMatchObject({ address: 'http://127.0.0.1:9/v1/traces' });
  });
});
