import { describe, expect, it } from 'vitest';
import { QueueRefusedError, QueueUnavailableError } from '../../../shared/queue/queue-errors.js';
import { queueErrorOf } from '../../../shared/queue/redis-connection.js';

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
    ['a cluster without a primary', 'CLUSTERDOWN The cluster is down'],
    ['a replica without its primary', 'MASTERDOWN Link with MASTER is down'],
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
});
