/** Writes the page `infra/results/digests.md`. */

import { digestTable, type RecordedDigests } from './recorded-digests.js';

export function digestsPage(recorded: RecordedDigests): string {
  const { commit, date, machine, cases } = recorded;
  return `# Digests of small runs

Commit ${commit}, ${date}, ${machine}. Made by \`npm run check -- digests\`; the table shows the first 12
hexadecimal digits of each value. \`digests.json\` contains the full values and the table of the demo's example.

To check that a refactoring computes the same, run
\`npm run check -- digests --compare infra/results/digests.json\`. It exits with 1 and lists the values that differ.
Another processor or TensorFlow build may round differently; record the older checkout there first with
\`--checkout DIR\`.

| value      | meaning |
| ---------- | ------- |
| training   | digest of the trained meta-parameters |
| logits     | SHA-256 of \`test-logits.safetensors\`, of all segments together |
| evaluation | SHA-256 of \`evaluation.json\` with sorted keys, without times, addresses, device name and config hash |
| outcome    | SHA-256 of a case's other output: logs and store tables, per-row predictions, the JSON of a sweep or comparison, the table of the demo's example |
| config     | hash of the parsed config, the only value that a new setting with a default changes |

${digestTable(cases).join('\n')}
`;
}
