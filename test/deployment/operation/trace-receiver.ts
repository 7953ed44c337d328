/** A receiver of OTLP, and the judgement whether spans of several processes are one trace. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

const ValueSchema = z.looseObject({
  stringValue: z.string().optional(),
  intValue: z.string().optional(),
});
const AttributesSchema = z.array(z.strictObject({ key: z.string(), value: ValueSchema }));
const RequestSchema = z.strictObject({
  resourceSpans: z.array(
    z.strictObject({
      resource: z.strictObject({ attributes: AttributesSchema }),
      scopeSpans: z.array(
        z.looseObject({
          spans: z.array(
            z.looseObject({
              traceId: z.string(),
              spanId: z.string(),
              parentSpanId: z.string().optional(),
              name: z.string(),
              attributes: AttributesSchema,
            }),
          ),
        }),
      ),
    }),
  ),
});

interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string | undefined;
  readonly name: string;
  readonly service: string;
  /** The process that did the work. */
  readonly pid: string;
}

export interface TraceReceiver {
  readonly endpoint: string;
  readonly spans: readonly ReceivedSpan[];
  close(): void;
}

export async function receiveTraces(): Promise<TraceReceiver> {
  const spans: ReceivedSpan[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      spans.push(...spansIn(Buffer.concat(parts).toString('utf8')));
      response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // Only pipes have an address without a port.
  const { port } = server.address() as AddressInfo;
  return { endpoint: `http://127.0.0.1:${port}`, spans, close: () => void server.close() };
}

function spansIn(text: string): ReceivedSpan[] {
  return RequestSchema.parse(JSON.parse(text)).resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        ...span,
        service: valueOf(resource.attributes, 'service.name'),
        pid: valueOf(span.attributes, 'process.pid') || valueOf(resource.attributes, 'process.pid'),
      })),
    ),
  );
}

function valueOf(attributes: z.infer<typeof AttributesSchema>, key: string): string {
  const value = attributes.find((each) => each.key === key)?.value;
  return value?.stringValue ?? value?.intValue ?? '';
}

/**
 * The trace of one outer step in words.
 *
 * @throws Error if no trace has the spans of three processes, or one has a span whose parent is missing.
 */
export function joinedTrace(spans: readonly ReceivedSpan[]): string {
  const roots = spans.filter(({ name }) => name === 'outer step');
  const traces = roots.map(({ traceId }) => spans.filter((span) => span.traceId === traceId));
  const joined = traces.find((trace) => trace.some(({ name }) => name === 'compute'));
  if (joined === undefined) throw new Error('no trace reaches a compute process');
  const ids = new Set(joined.map(({ spanId }) => spanId));
  const orphans = joined.filter(
    ({ parentSpanId: above }) => above !== undefined && !ids.has(above),
  );
  if (orphans.length > 0) throw new Error(`${orphans.length} spans have no parent`);
  const named = (name: string): ReceivedSpan[] => joined.filter((span) => span.name === name);
  const [compute] = named('compute');
  const job = joined.find(({ spanId }) => spanId === compute?.parentSpanId);
  const root = joined.find(({ spanId }) => spanId === job?.parentSpanId);
  if (job?.name !== 'job' || root?.name !== 'outer step')
    throw new Error('the computation is not below a job of its outer step');
  const pids = new Set([root.pid, job.pid, compute?.pid]);
  if (pids.size !== 3) throw new Error(`one trace in ${pids.size} processes`);
  return `${joined.length} spans of ${named('job').length} jobs in ${new Set(joined.map(({ pid }) => pid)).size} processes, of ${roots.length} outer steps`;
}
