/** The style sheet of the report page: light and dark, readable on paper and on a telephone. */

export const REPORT_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2129; --ink-2: #5a6270; --rule: #e3e1dc;
  --accent: #5a3fd0; --good: #0b7a4b; --bad: #b3261e; --heat: 90, 63, 208;
  --arm-constant: #9aa0aa; --arm-global: #3f6fb5; --arm-global-shift: #c77700;
  --arm-finetuned: #0b8a7d; --arm-meta-unadapted: #b06bd0; --arm-meta-adapted: #5a3fd0;
  --arm-meta-chosen: #c2306e; --arm-blend: #6b7d1f; --arm-oracle: #1d2129;
  --run-0: #5a6270; --run-1: #5a3fd0; --run-2: #0b8a7d; --run-3: #c77700; --run-4: #3f6fb5;
  --run-5: #b3407f; --run-6: #6b8e23; --run-7: #8a5a3c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161b; --card: #1c1f26; --ink: #e9e7e2; --ink-2: #a5adba; --rule: #333843;
    --accent: #a492ff; --good: #58c894; --bad: #ff8a80; --heat: 150, 130, 255;
    --arm-constant: #8a909c; --arm-global: #74a7f2; --arm-global-shift: #f0a840;
    --arm-finetuned: #45c9b8; --arm-meta-unadapted: #d79cf2; --arm-meta-adapted: #a492ff;
    --arm-meta-chosen: #ff86b0; --arm-blend: #bccf62; --arm-oracle: #e9e7e2;
    --run-0: #a5adba; --run-1: #a492ff; --run-2: #45c9b8; --run-3: #f0a840; --run-4: #74a7f2;
    --run-5: #ee86bd; --run-6: #a9cf5a; --run-7: #c9936f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 40px 20px 80px; }
header p { margin: 4px 0 0; color: var(--ink-2); }
h1 { font-size: 30px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 48px 0 4px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 20px 0 6px; }
.note { color: var(--ink-2); margin: 0 0 14px; max-width: 72ch; font-size: 14.5px; }
.card {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; overflow-x: auto;
}
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px;
  margin: 26px 0 0; }
.facts div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 12px 16px; }
.facts b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; line-height: 1.3; }
.facts span { color: var(--ink-2); font-size: 13.5px; }
.verdicts { list-style: none; margin: 14px 0 0; padding: 0; display: grid; gap: 8px; }
.verdicts li { background: var(--card); border: 1px solid var(--rule);
  border-left: 4px solid var(--ink-2); border-radius: 6px; padding: 10px 14px; }
.verdicts li.better { border-left-color: var(--good); }
.verdicts li.worse { border-left-color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 14.5px; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; }
th { color: var(--ink-2); font-weight: 500; border-bottom: 1px solid var(--rule);
  vertical-align: bottom; }
th small { display: block; font-weight: 400; font-size: 12px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr + tr td { border-top: 1px solid var(--rule); }
td.best { font-weight: 700; color: var(--accent); }
td small { color: var(--ink-2); font-size: 12.5px; }
td.better { color: var(--good); } td.worse { color: var(--bad); }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.grids { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 16px; }
.grids td, .grids th { padding: 4px 6px; font-size: 13px; }
.grids .chosen { outline: 2px solid var(--accent); outline-offset: -2px; font-weight: 700; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 26px; font-size: 14px; color: var(--ink-2);
  margin: 0 0 6px; }
table.tight th, table.tight td { padding: 6px 5px; }
table.tight td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 150px; }
table.tight small { font-size: 11.5px; }
table.wrapped { font-size: 13.5px; }
table.wrapped th, table.wrapped td { padding: 6px 5px; white-space: normal; }
table.wrapped td:first-child { white-space: nowrap; }
details { margin: 12px 0 0; }
summary { cursor: pointer; color: var(--ink-2); font-size: 14.5px; }
details .card { margin-top: 10px; }
svg { display: block; width: 100%; height: auto; }
td svg { width: 150px; height: 14px; margin-left: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 22px; margin: 0;
  font-size: 14.5px; }
dt { color: var(--ink-2); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media print { main { padding: 0; } .card, .facts div { break-inside: avoid; } }
`;
