/** The seed and the data of configs that benches of operation train on: MovieLens as the repository ships it. */

import { resolve } from 'node:path';

/** Sections of a run config. Paths start at the working folder, which is the project's root. */
export const MOVIELENS_DATA = `seed: 7
data:
  logs: ${resolve('infra/examples/movielens/movielens.csv.gz')}
  store: store
  task: movieId
  label: { expression: rating >= 4 }
  time: timestamp
  features:
    - { name: user, kind: category, column: userId, countMin: 3 }
    - { name: genres, kind: bag }
  rowSplit: { by: time, supportRowsMin: 5, queryRowsMin: 5, supportRowsMax: 64, queryRowsMax: 64 }
  taskSplit: { by: hash, validationShare: 0.15, testShare: 0.25 }
`;
