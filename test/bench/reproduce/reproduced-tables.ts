/** The tables of `infra/results/` and the commands that make them. */

export interface ReproducedTable {
  readonly name: string;
  /** Script of package.json. */
  readonly script: string;
  /** Arguments of the script, where its default output is not the whole table. */
  readonly words?: readonly string[];
  /** The script takes `--folder`, where it keeps its runs, so that a stopped one can resume. */
  readonly keepsRuns?: boolean;
  /** Within `infra/results/`. */
  readonly makes: string;
  /** Paths from the project's root that the command requires: data that is not redistributable. */
  readonly needs?: readonly string[];
}

const MOVIELENS_1M = '../shared/data/movielens-1m/ratings_rebuilt.csv.xz';

export const TABLES: readonly ReproducedTable[] = [
  { name: 'deployment', script: 'check:deployment', makes: 'deployment.md' },
  { name: 'deployment-images', script: 'check:images', makes: 'deployment-images.md' },
  { name: 'large-tables', script: 'bench:large-tables', makes: 'large-tables.md' },
  { name: 'bandit-delay', script: 'bench:bandit-delay', makes: 'bandit-delay.md' },
  {
    name: 'ope',
    script: 'bench:ope',
    makes: 'ope.md',
    needs: ['../shared/data/open-bandit-small/random_men.csv.xz'],
  },
  {
    name: 'real',
    script: 'bench:real',
    words: ['--budget-minutes', '2', '--at-once', '2'],
    keepsRuns: true,
    makes: 'real.md',
  },
  {
    name: 'adaptation',
    script: 'bench:adaptation',
    words: ['--at-once', '2'],
    keepsRuns: true,
    makes: 'adaptation.md',
    needs: ['../shared/data/dbook/meta_training.json.xz', MOVIELENS_1M],
  },
  { name: 'market', script: 'bench:market', keepsRuns: true, makes: 'market.md' },
  {
    name: 'market-policies',
    script: 'bench:market',
    words: ['--policies'],
    keepsRuns: true,
    makes: 'market-policies.md',
  },
  { name: 'scaling', script: 'bench:scaling', makes: 'scaling.md' },
  { name: 'queue-scaling', script: 'bench:queue-scaling', makes: 'queue-scaling.md' },
  {
    name: 'distributed-peers',
    script: 'bench:distributed-peers',
    makes: 'distributed-peers.md',
  },
  { name: 'overhead', script: 'bench:overhead', makes: 'overhead.md' },
  { name: 'operation', script: 'check:operation', words: ['--record'], makes: 'operation.md' },
  { name: 'serving-kernel', script: 'bench:kernel', makes: 'serving-kernel.md' },
  { name: 'serving-server', script: 'bench:server', makes: 'serving-server.md' },
  {
    name: 'serving-side-by-side',
    script: 'bench:side-by-side',
    makes: 'serving-side-by-side.md',
  },
  { name: 'serving-adapt', script: 'bench:adapt', makes: 'serving-adapt.md' },
  { name: 'refresh', script: 'bench:refresh', makes: 'refresh.md' },
  {
    name: 'refresh-million',
    script: 'bench:refresh',
    words: ['--outer-steps', '60', '--adgroups', '1000000', '--name', 'refresh-million'],
    makes: 'refresh-million.md',
  },
  { name: 'serving-swap', script: 'bench:swap', makes: 'serving-swap.md' },
  { name: 'served-equality', script: 'bench:served-equality', makes: 'served-equality.md' },
  { name: 'interchange', script: 'bench:interchange', makes: 'interchange.md' },
  {
    name: 'trackers',
    script: 'check:trackers',
    words: ['--record', 'infra/results/trackers.md'],
    makes: 'trackers.md',
  },
  { name: 'start', script: 'bench:start', makes: 'start.md' },
  { name: 'dashboard', script: 'bench:dashboard', makes: 'dashboard.md' },
  { name: 'record', script: 'bench:record', makes: 'record.md' },
  { name: 'tutorial', script: 'check:tutorial', words: ['--record'], makes: 'tutorial.md' },
  {
    name: 'simulation',
    script: 'simulate:seeds',
    words: ['--record', 'infra/results/simulation.md'],
    keepsRuns: true,
    makes: 'simulation.md',
  },
  {
    name: 'fuzz',
    script: 'fuzz',
    words: ['--inputs', '1000000', '--slices', '20', '--record', 'infra/results/fuzz.md'],
    makes: 'fuzz.md',
  },
  { name: 'soak', script: 'soak', words: ['--record', 'infra/results/soak'], makes: 'soak.md' },
  { name: 'sinusoid', script: 'bench:sinusoid', keepsRuns: true, makes: 'sinusoid.md' },
  {
    name: 'meta-embedding',
    script: 'reproduce:meta-embedding',
    keepsRuns: true,
    makes: 'meta-embedding.md',
    needs: [MOVIELENS_1M],
  },
  {
    name: 'meta-embedding-fm',
    script: 'reproduce:meta-embedding',
    words: ['--settings', 'published', '--models', 'fm'],
    keepsRuns: true,
    makes: 'meta-embedding.md',
    needs: [MOVIELENS_1M],
  },
  {
    name: 'meta-embedding-others',
    script: 'reproduce:meta-embedding',
    words: ['--settings', 'published', '--models', 'wide-deep,ipnn,opnn,pnn', '--seeds', '0'],
    keepsRuns: true,
    makes: 'meta-embedding.md',
    needs: [MOVIELENS_1M],
  },
  {
    name: 'dbook',
    script: 'bench:dbook',
    keepsRuns: true,
    makes: 'dbook.md',
    needs: ['../shared/data/dbook/meta_training.json.xz'],
  },
  {
    name: 'movielens-protocols',
    script: 'bench:movielens-protocols',
    keepsRuns: true,
    makes: 'movielens-protocols.md',
  },
  {
    name: 'methods-world',
    script: 'bench:methods-world',
    words: ['--fresh'],
    keepsRuns: true,
    makes: 'methods-world.md',
  },
  {
    name: 'synthetic-world',
    script: 'bench:synthetic-world',
    keepsRuns: true,
    makes: 'synthetic-world.md',
  },
  { name: 'log-to-store', script: 'bench:log-to-store', makes: 'log-to-store.md' },
  { name: 'digests', script: 'bench:digests', makes: 'digests.md' },
  { name: 'traffic', script: 'bench:traffic', makes: 'traffic.md' },
  { name: 'generator', script: 'bench:generator', makes: 'generator.md' },
  { name: 'inner-loops', script: 'bench:peers', makes: 'inner-loops.md' },
  { name: 'inner-loops-ours', script: 'bench', makes: 'inner-loops-ours.md' },
  { name: 'capture-soak', script: 'bench:soak', makes: 'capture-soak.json' },
  {
    name: 'prepare-1m',
    script: 'bench:prepare',
    words: ['--result', 'infra/results/prepare-1000000.json'],
    makes: 'prepare-1000000.json',
  },
  {
    name: 'prepare-10m',
    script: 'bench:prepare',
    words: [
      ...['--rows', '10000000', '--tasks', '100000'],
      ...['--result', 'infra/results/prepare-10000000.json'],
    ],
    makes: 'prepare-10000000.json',
  },
  { name: 'synthesize', script: 'bench:synthesize', makes: 'synthesize.json' },
];
