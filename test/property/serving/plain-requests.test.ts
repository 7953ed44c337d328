/**
 * Requests on one connection, cut into pieces anywhere, have the answers that node:http gives to each of them, whether
 * they are read as plain ones or handed over.
 */

import fc from 'fast-check';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, expect, test } from 'vitest';
import { plainHeadOf, type PlainHead } from '../../../worker/serving/server/plain-connection.js';
import { RANKED, testServer, twoBundles } from '../../fixtures/serving/served-export.js';

const served = await testServer((await twoBundles()).objects);
afterAll(() => served.server.drain());

const HOST = 'Host: a\r\n';
const BODIES = [RANKED, { ...RANKED, reserve: 0.4 }, { candidates: 3 }].map((each) =>
  JSON.stringify(each),
);

function post(path: string, type: string, body: string, others = ''): string {
  const length = Buffer.byteLength(body);
  const head = `POST ${path} HTTP/1.1\r\n${HOST}Content-Type: ${type}\r\n${others}Content-Length: ${length}`;
  return `${head}\r\n\r\n${body}`;
}

const jsonBody = fc.constantFrom(...BODIES);
const request = fc.oneof(
  { weight: 4, arbitrary: jsonBody.map((body) => post('/v1/rank', 'application/json', body)) },
  jsonBody.map((body) => post('/v1/score', 'application/json; charset=utf-8', body)),
  jsonBody.map((body) => post('/v1/rank', 'application/json', body, 'TE: trailers\r\n')),
  jsonBody.map((body) =>
    post('/v1/rank', 'application/json', body, 'qianmo-deadline-ms: none\r\n'),
  ),
  jsonBody.map((body) => post('/v1/rank', 'text/plain', body)),
  jsonBody.map((body) => post('/v1/nowhere', 'application/json', body)),
  jsonBody.map((body) => {
    const size = Buffer.byteLength(body).toString(16);
    const head = `POST /v1/rank HTTP/1.1\r\n${HOST}Content-Type: application/json`;
    return `${head}\r\nTransfer-Encoding: chunked\r\n\r\n${size}\r\n${body}\r\n0\r\n\r\n`;
  }),
  fc.constant(`GET /health/live HTTP/1.1\r\n${HOST}\r\n`),
);

/** A client that reads all that comes. */
class Client {
  readonly socket: Socket;
  #text = '';

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1');
    });
  }

  static async connected(): Promise<Client> {
    const socket = connect({ port: Number(new URL(served.url).port), noDelay: true });
    const client = new Client(socket);
    await once(socket, 'connect');
    return client;
  }

  /** The next answer without what differs from time to time. */
  async answer(): Promise<string> {
    for (;;) {
      const headEnd = this.#text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(this.#text)?.[1] ?? NaN);
      const end = headEnd + 4 + length;
      if (headEnd >= 0 && this.#text.length >= end) {
        const answer = this.#text.slice(0, end);
        this.#text = this.#text.slice(end);
        return answer.replace(/\r\nDate: [^\r]*/, '');
      }
      await once(this.socket, 'data');
    }
  }
}

/** As node:http answers it, which reads all requests of a connection that began with another method. */
const known = new Map<string, string>();
async function expectedOf(text: string): Promise<string> {
  const found = known.get(text);
  if (found !== undefined) return found;
  const client = await Client.connected();
  client.socket.write(`GET /health/live HTTP/1.1\r\n${HOST}\r\n`);
  await client.answer();
  client.socket.write(text);
  const answer = await client.answer();
  client.socket.destroy();
  known.set(text, answer);
  return answer;
}

async function written(socket: Socket, bytes: Buffer, cuts: readonly number[]): Promise<void> {
  const places = [...cuts.map((cut) => cut % bytes.length), bytes.length].sort((a, b) => a - b);
  let start = 0;
  for (const place of places) {
    socket.write(bytes.subarray(start, place));
    start = place;
    await new Promise(setImmediate);
  }
}

test('answers do not depend on who reads a request, nor on the pieces that it comes in', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 5 }),
      fc.array(fc.nat(), { maxLength: 4 }),
      fc.boolean(),
      async (texts, cuts, isPipelined) => {
        const expected = [];
        for (const text of texts) expected.push(await expectedOf(text));
        const client = await Client.connected();
        const answers: string[] = [];
        const groups = isPipelined ? [texts] : texts.map((text) => [text]);
        let sentCount = 0;
        for (const group of groups) {
          sentCount += group.length;
          await written(client.socket, Buffer.from(group.join('')), cuts);
          while (answers.length < sentCount) answers.push(await client.answer());
        }
        client.socket.destroy();
        expect(answers).toEqual(expected);
      },
    ),
    { numRuns: 150 },
  );
});

function headOf(text: string): ReturnType<typeof plainHeadOf> {
  return plainHeadOf(Buffer.from(text, 'latin1'), null);
}

/** Differences of a head from a known one. */
const DIFFERENCES = [
  ['rank?a=b', 'score'],
  ['some value', 'another value'],
  ['Host: a', 'Host: b'],
  ['Length: 2', 'Length: 2\r\nX-More: 2'],
  ['Length: 2', 'Length: 2 '],
  ['Length: 2', 'Length: +2'],
  ['Length: 2', 'Length: '],
  ['Length: 2', 'Length: 1234567890'],
  ['Length: 2', 'Length: 2\r\nContent-Length: 2'],
] as const;

test('a plain head is read, and what node:http must read is left to it', () => {
  const plain = post('/v1/rank?a=b', 'application/json', '{}', 'X-Name:  some value \r\n');
  const head = headOf(plain) as PlainHead;
  expect(head).toMatchObject({
    ...{ url: '/v1/rank?a=b', byteCount: plain.length - 2, bodyByteCount: 2 },
    headers: { host: 'a', 'content-type': 'application/json', 'x-name': 'some value' },
  });
  // One that differs in its length alone is what it is without the known one, and has its headers.
  const longer = plain.replace('Length: 2', 'Length: 1234');
  const known = plainHeadOf(Buffer.from(longer), head) as PlainHead;
  expect(known).toEqual({ ...(headOf(longer) as PlainHead), bodyByteCount: 1234 });
  expect(known.headers).toBe(head.headers);
  for (const [before, after] of DIFFERENCES) {
    const other = plain.replace(before, after);
    expect([other, plainHeadOf(Buffer.from(other), head)]).toEqual([other, headOf(other)]);
  }
  for (let length = 1; length < plain.length - 2; length += 1)
    expect(headOf(plain.slice(0, length))).toBe('incomplete');
  for (const unusual of [
    plain.replace('POST', 'PUT '),
    plain.replace('HTTP/1.1', 'HTTP/1.0'),
    plain.replace('Host: a\r\n', ''),
    plain.replace('Host: a', 'Host: a\r\nhost: b'),
    plain.replace('Host: a', 'Host: a\r\n folded'),
    plain.replace('Host: a', 'Host : a'),
    plain.replace('Host: a', 'Host: a\r\nTransfer-Encoding: chunked'),
    plain.replace('Host: a', 'Host: a\r\nExpect: 100-continue'),
    plain.replace('Host: a', 'Host: a\r\nUpgrade: h2c'),
    plain.replace('Host: a', 'Host: a\r\nConnection: close'),
    plain.replace('Host: a', 'Host: \u00e9'),
    plain.replace('Host: a', 'Host: a\nB: c'),
    plain.replace('Length: 2', 'Length: +2'),
    plain.replace('Length: 2', 'Length: 2, 2'),
    plain.replace('Length: 2', 'Length: 0x2'),
    plain.replace('some value', 'x'.repeat(9_000)),
  ])
    expect([unusual, headOf(unusual)]).toEqual([unusual, 'unusual']);
});
