import { describe } from 'vitest';
import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { describeDispatcher } from './dispatcher.js';

describe.each([1, 3])('with %i executors', (count) => {
  describeDispatcher('in-memory', (executor, { attemptsMax }) => {
    const dispatcher = createInMemoryDispatcher({
      executors: Array.from({ length: count }, () => executor),
      attemptsMax,
      clock: instantClock(),
      sink: () => undefined,
    });
    return Promise.resolve({ dispatcher, close: () => dispatcher.close() });
  });
});
