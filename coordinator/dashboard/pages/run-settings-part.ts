/** The config of a run, and what differs from that of another run. */

import { escapeHtml } from '../../reports/html-text.js';
import { differencesOf, type RunSettings } from '../catalog/run-settings.js';
import { nothing, regionTable } from './elements.js';

interface ComparedSettings {
  /** The key of the other run. */
  readonly key: string;
  /** Null if there is no such run, or it has no checkpoint. */
  readonly settings: RunSettings | null;
}

interface SettingsPart {
  readonly path: string;
  readonly settings: RunSettings | null;
  readonly compared: ComparedSettings | null;
  /** The keys of other runs that can be compared. */
  readonly others: readonly string[];
}

export function settingsHtml({ path, settings, compared, others }: SettingsPart): string {
  if (settings === null) return nothing('It is known from the first checkpoint on.');
  const rows = [...settings].map(([name, value]) => [name, value]);
  const all =
    `<details><summary>All ${rows.length} settings</summary>` +
    `${regionTable({
      label: 'Settings',
      columns: [
        ['setting', 'text'],
        ['value', 'wrap'],
      ],
      rows,
    })}</details>`;
  return formHtml(path, others, compared?.key ?? '') + comparedHtml(settings, compared) + all;
}

function formHtml(path: string, others: readonly string[], chosen: string): string {
  if (others.length === 0) return '';
  const options = others.map(
    (key) => `<option${key === chosen ? ' selected' : ''}>${escapeHtml(key)}</option>`,
  );
  return (
    `<form class="filter" method="get" action="${escapeHtml(path)}#config">` +
    `<label>Compare with<select name="with">${options.join('')}</select></label><button>Compare</button></form>`
  );
}

function comparedHtml(settings: RunSettings, compared: ComparedSettings | null): string {
  if (compared === null) return '';
  const { key, settings: others } = compared;
  if (others === null) return nothing(`${key} has no checkpoint to compare with.`);
  const differences = differencesOf(settings, others);
  if (differences.length === 0) return nothing(`Every setting is the same as that of ${key}.`);
  return regionTable({
    label: `Settings that differ from those of ${key}`,
    columns: [
      ['setting', 'text'],
      ['this run', 'wrap'],
      [key, 'wrap'],
    ],
    rows: differences.map(({ path, value, otherValue }) => [
      path,
      value ?? 'none',
      otherValue ?? 'none',
    ]),
  });
}
