import { createInMemoryDispatcher } from '../../coordinator/dispatch/in-memory-dispatcher.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { describeDispatcher } from './dispatcher.js';

describeDispatcher('in-memory', (executor, { attemptsMax }) => {
  const dispatcher = createInMemoryDispatcher({
    executors: [executor],
    attemptsMax,
    clock: instantClock(),
    sink: () => undefined,
  });
  return Promise.resolve({ dispatcher, close: () => dispatcher.close() });
});
