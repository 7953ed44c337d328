import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import { queueCallsAt, queueErrorOf } from '../../../shared/queue/redis-errors.js';
import { BlobMissingError, blobRefOf } from '../../../shared/storage/blob-store.js';

const WHERE = 'redis://h:1';
const refusal = (message: string): Error =>
  Object.assign(new Error(message), { name: 'ReplyError' });

describe('an error of Redis', () => {
  it.each([
    ['a lost connection', new Error('Connection is closed.'), 'Connection is closed.'],
    [
      'an error with a code alone',
      Object.assign(new Error(''), { code: 'ECONNREFUSED' }),
      'ECONNREFUSED',
    ],
    ['the reply of a server that loads', refusal('LOADING the dataset'), 'LOADING the dataset'],
    [
      'an outage as a cause',
      new Error('wrapped', { cause: new Error('read ECONNRESET') }),
      'read ECONNRESET',
    ],
  ])('is an outage: %s', (_, error, reason) => {
    const found = queueErrorOf(error, WHERE);
    expect(found).toBeInstanceOf(QueueUnavailableError);
    expect(found).toMatchObject({ kind: 'transient', reason, report: { where: WHERE } });
  });

  it('keeps what a report says about an outage, and adds the reason', () => {
    const cause = new Error('Connection is closed.');
    const report = { kind: 'transient', what: 'no blob', where: 'key', cause } as const;
    expect(queueErrorOf(new QianmoError(report), WHERE)).toMatchObject({
      report: { what: 'no blob', where: 'key', found: 'Connection is closed.' },
    });
  });

  it('is a refusal with its cure', () => {
    expect(queueErrorOf(refusal('MISCONF Redis is configured to save'), WHERE)).toMatchObject({
      kind: 'environment',
      report: { where: WHERE, cure: expect.stringMatching(/disk.*--resume/) as string },
    });
    expect(queueErrorOf(refusal('OOM command not allowed'), WHERE)).toMatchObject({
      report: { cure: expect.stringMatching(/maxmemory/) as string },
    });
  });

  it('is returned as it is when it is neither', async () => {
    const others = [
      new Error('Missing lock for job 1'),
      new BlobMissingError(blobRefOf(Uint8Array.of(1))),
      new QianmoError({ kind: 'environment', what: 'no memory', cause: refusal('OOM') }),
      'Connection is closed.',
    ];
    for (const other of others) expect(queueErrorOf(other, WHERE)).toBe(other);
    const call = queueCallsAt(WHERE)(() => Promise.reject(others[0] as Error));
    await expect(call).rejects.toBe(others[0]);
  });
});
