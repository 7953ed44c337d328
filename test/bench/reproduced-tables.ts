/** The tables of `infra/results/` and the commands that make them. */

export interface ReproducedTable {
  readonly name: string;
  /** Of package.json. */
  readonly script: string;
  /** Within `infra/results/`. */
  readonly makes: string;
  /** Paths from the project's root without which it cannot be made: data that is not redistributable. */
  readonly needs?: readonly string[];
}

export const TABLES: readonly ReproducedTable[] = [
  { name: 'learned-rule', script: 'bench:learned-rule', makes: 'learned-rule.md' },
  {
    name: 'meta-embedding',
    script: 'reproduce:meta-embedding',
    makes: 'meta-embedding.md',
    needs: ['../shared/data/movielens-1m/ratings_rebuilt.csv.xz'],
  },
  {
    name: 'dbook',
    script: 'bench:dbook',
    makes: 'dbook.md',
    needs: ['../shared/data/dbook/meta_training.json.xz'],
  },
  { name: 'sinusoid', script: 'bench:sinusoid', makes: 'sinusoid.md' },
  { name: 'methods-world', script: 'bench:methods-world', makes: 'methods-world.md' },
  { name: 'synthetic-world', script: 'bench:synthetic-world', makes: 'synthetic-world.md' },
  { name: 'log-to-store', script: 'bench:log-to-store', makes: 'log-to-store.md' },
  { name: 'traffic', script: 'bench:traffic', makes: 'traffic.md' },
  { name: 'generator', script: 'bench:generator', makes: 'generator.md' },
  { name: 'inner-loops', script: 'bench:peers', makes: 'inner-loops.md' },
  { name: 'inner-loops-ours', script: 'bench', makes: 'inner-loops-ours.md' },
  { name: 'capture-soak', script: 'bench:soak', makes: 'capture-soak.json' },
];
