/** Imports go down only (STYLE rule 4); no cycles. */
const stages = 'capture|queue|claim|embed|store';
const layer = (name, from, to) => ({ name, severity: 'error', from: { path: from }, to: { path: to } });

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    layer('base-knows-nothing-above', '^src/(db|config|observe)/', '^src/(?!(db|config|observe)/)'),
    layer('catalog-knows-the-base-only', '^src/catalog/', '^src/(?!(db|config|observe|catalog)/)'),
    {
      name: 'stages-do-not-import-one-another',
      severity: 'error',
      from: { path: `^src/(${stages})/` },
      to: { path: '^src/', pathNot: ['^src/(db|config|observe|catalog)/', '^src/$1/'] },
    },
    layer('budget-stands-on-the-stages', '^src/budget/', '^src/(?!(db|config|observe|catalog|embed|budget)/)'),
    layer('search-and-source-stay-below-the-surface', '^src/(search|source|stages|pipeline)', '^src/(worker|maintenance|reembed|client|status|cli|index)'),
    layer('reembed-stays-below-the-surface', '^src/reembed/', '^src/(worker|maintenance|client|status|cli|index)'),
    layer('workers-and-maintenance-stay-below-the-surface', '^src/(worker|maintenance|status)/', '^src/(client|cli|index)'),
    layer('src-does-not-import-entry-points', '^src/', '^(workers|test|bench|examples|scripts)/'),
    {
      name: 'process-env-and-sql-stay-out-of-entry-points',
      comment: 'workers are thin: they load config, open, call one function',
      severity: 'error',
      from: { path: '^workers/' },
      to: { path: '^src/(db|claim|store|capture|search|stages)/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|\\.bench)/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.mjs', '.json'] },
  },
};
