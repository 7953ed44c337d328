import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { QueueRefusedError, QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import { queueCallsAt, queueErrorOf } from '../../../shared/queue/redis-connection.js';
import { BlobMissingError, blobRefOf } from '../../../shared/storage/blob-store.js';

const WHERE = 'redis://h:1';
const refusal = (message: string): Error =>
  Object.assign(new Error(message), { name: 'ReplyError' });

describe('an error of Redis', () => {
  it.each([
    ['a lost connection', new Error('Connection is closed.'), 'Connection is closed.'],
    [
      'a connection lost in the middle of the replies to a pipeline',
      new Error('Command aborted due to connection close'),
      'Command aborted due to connection close',
    ],
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

  it.each([
    ['a replica', 'READONLY You cannot write against a read only replica.'],
    ['a replica, from a script', 'READONLY You cannot write. script: 5f2, on @user_script:12.'],
    [
      'a replica, from a script of Redis 6',
      'ERR Error running script (call to f_5f2): @user_script:12: @user_script: 12: -READONLY You cannot',
    ],
    ['another node', 'MOVED 3999 10.0.0.2:6379'],
    ['a cluster without a primary', 'CLUSTERDOWN The cluster is down'],
    ['a replica without its primary', 'MASTERDOWN Link with MASTER is down'],
    ['a primary that was demoted', 'UNBLOCKED force unblock from blocking operation'],
    ['slots on their way', 'TRYAGAIN Multiple keys request during rehashing of slot'],
    ['too few replicas', 'NOREPLICAS Not enough good replicas to write.'],
  ])('is an outage: the reply of %s', (_, message) => {
    expect(queueErrorOf(refusal(message), WHERE)).toBeInstanceOf(QueueUnavailableError);
    const discarded = Object.assign(refusal('EXECABORT Transaction discarded'), {
      previousErrors: [refusal(message)],
    });
    expect(queueErrorOf(discarded, WHERE)).toMatchObject({ kind: 'transient', reason: message });
  });

  it.each([
    ['disk', 'MISCONF Errors writing to the AOF file: No space left on device', /free the disk/],
    [
      'disk',
      'ERR Error running script (call to f_5f2): @user_script:1: @user_script: 1: -MISCONF Redis is',
      /free the disk/,
    ],
    ['memory', 'OOM command not allowed', /maxmemory/],
    ['permission', "NOPERM User w has no permissions to run the 'info' command", /rights/],
    ['permission', 'ERR ACL failure in script: User w has no permissions', /rights/],
    ['other', 'WRONGTYPE Operation against a key', /log/],
  ])('is a refusal with its cure: %s, %s', (kind, message, cure) => {
    const discarded = Object.assign(refusal('EXECABORT Transaction discarded'), {
      previousErrors: [refusal(message)],
    });
    for (const error of [refusal(message), new Error('wrapped', { cause: refusal(message) })]) {
      const found = queueErrorOf(error, WHERE);
      expect(found).toBeInstanceOf(QueueRefusedError);
      expect(found).toMatchObject({
        ...{ kind: 'environment', refusal: kind, reason: message },
        report: { where: WHERE, cure: expect.stringMatching(cure) as string },
      });
    }
    if (kind !== 'other')
      expect(queueErrorOf(discarded, WHERE)).toMatchObject({ refusal: kind, reason: message });
  });

  it('is returned as it is when it is neither', async () => {
    const others = [
      new Error('Missing lock for job 1'),
      new BlobMissingError(blobRefOf(Uint8Array.of(1))),
      new QianmoError({ kind: 'environment', what: 'no store' }),
      'Connection is closed.',
    ];
    for (const other of others) expect(queueErrorOf(other, WHERE)).toBe(other);
    const call = queueCallsAt(WHERE)(() => Promise.reject(others[0] as Error));
    await expect(call).rejects.toBe(others[0]);
  });
});
