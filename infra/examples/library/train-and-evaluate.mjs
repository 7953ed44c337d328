// qianmo as a library: writes a small synthetic log, and prepares, trains and evaluates a run on
// it. All files are written below the folder `library-example` of the current folder.
//
//   node infra/examples/library/train-and-evaluate.mjs
import { evaluate, prepare, QianmoError, synthesize, train } from 'qianmo';

const FOLDER = 'library-example';

// The same fields as in a YAML file; omitted fields have their defaults.
const config = {
  run: 'library-example',
  seed: 7,
  data: {
    logs: `${FOLDER}/log.csv`,
    store: `${FOLDER}/store`,
    task: 'adgroup',
    label: { column: 'click' },
    time: 'time',
    features: [
      { name: 'age', kind: 'category' },
      { name: 'category', kind: 'category' },
      { name: 'slot', kind: 'category' },
      { name: 'price', kind: 'number', scale: 'log-standard' },
    ],
    rowSplit: { by: 'time', supportRowsMin: 2, queryRowsMin: 2 },
  },
  model: { kind: 'fm', embeddingWidth: 4, hiddenWidths: [], personal: ['bias'] },
  training: { outerSteps: 40, tasksPerOuterStep: 32, optimizer: { kind: 'adam', rate: 0.01 } },
  evaluation: { innerRates: [0.1, 1], innerSteps: [3, 10], bootstrapSamples: 200 },
  output: FOLDER,
};

// The first Ctrl-C stops the work cleanly and leaves nothing running.
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());
const { signal } = stop;

try {
  await synthesize({ out: config.data.logs, rows: 20_000, seed: 7, clickRate: 0.2 }, { signal });
  const { manifest } = await prepare({ config }, { signal });
  console.log(`${manifest.taskCount} adgroups, ${manifest.rowCount} rows`);

  // A call returns a promise of its result; its `events` are an async iterable.
  const training = train({ config, fresh: true }, { signal });
  for await (const event of training.events) {
    if (event.kind === 'outer-step' && event.outerStep % 10 === 0)
      console.log(`outer step ${event.outerStep}: loss ${event.queryLoss.toFixed(4)}`);
  }
  const { checkpoint, digest } = await training;
  console.log(`checkpoint ${checkpoint}, digest ${digest}`);

  const [report] = await evaluate({ config }, { signal });
  const [allAdgroups] = report.slices;
  for (const { arm, metrics } of allAdgroups.arms)
    console.log(`${arm}: logloss ${metrics.logloss.toFixed(4)}`);
} catch (error) {
  if (!(error instanceof QianmoError)) throw error;
  console.error(`${error.kind}: ${error.message}`);
  process.exitCode = error.exitCode;
}
