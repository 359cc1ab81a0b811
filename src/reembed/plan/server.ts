import { ADVISED_PGVECTOR, isOlder, vectorExtensionRefusals } from '../../source/index.js';
import type { Findings, PlanContext } from './context.js';

/** Columns that a table may ever have had (MaxHeapAttributeNumber), and those that a space adds. */
const MOST_COLUMNS = 1600;
const COLUMNS = 4;

type Server = {
  readOnly: boolean;
  recovery: boolean;
  role: string;
  mayCreate: boolean;
  replicas: string[];
};

/** What the server and this role must have, and who else is sent all of it. */
export async function measureServer({ db, source, to, table, extension, hazards }: PlanContext): Promise<Findings> {
  const [server] = await db.query<Server>(
    `SELECT current_setting('transaction_read_only') = 'on' AS "readOnly", pg_is_in_recovery() AS recovery,
       current_user::text AS role, has_schema_privilege('freshvec', 'CREATE') AS "mayCreate",
       ARRAY(SELECT application_name FROM pg_stat_replication
             WHERE application_name <> 'pg_basebackup' ORDER BY 1) AS replicas`,
  );
  if (!server) throw new TypeError('the server gave no row');
  const { readOnly, recovery, role, mayCreate, replicas } = server;
  const sent = [...replicas, ...(to.store === 'column' ? hazards.publications : hazards.allTables)];
  return {
    facts: [
      { name: 'pgvector', value: extension?.version ?? null, unit: 'text', note: extension ? '' : 'not installed' },
      {
        name: 'replicas',
        value: sent.length === 0 ? 'none' : sent.join(', '),
        unit: 'text',
        note: sent.length === 0 ? 'connected at present' : 'replicas and publications that are sent all of this WAL',
      },
    ],
    blockers: [
      ...vectorExtensionRefusals(extension),
      ...(recovery
        ? ['this server is a replica, which cannot be written: give DATABASE_URL of the primary.']
        : readOnly
          ? [
              `this database is read-only for the role ${role}: take default_transaction_read_only back, or use another role.`,
            ]
          : []),
      ...(to.store === 'table' && !mayCreate
        ? [
            `the role ${role} may not create a table in the schema freshvec: GRANT CREATE ON SCHEMA freshvec TO ${role}.`,
          ]
        : []),
      ...(to.store === 'column' && table.columnPlaces + COLUMNS > MOST_COLUMNS
        ? [
            `${source.relation.schema}.${source.relation.table} has had ${table.columnPlaces} columns, dropped ones included, and a table may have ${MOST_COLUMNS}: use \`--store table\`, or make the table anew.`,
          ]
        : []),
    ],
    notes: [
      ...(extension && isOlder(extension.version, ADVISED_PGVECTOR)
        ? [
            `pgvector ${extension.version} works; ${ADVISED_PGVECTOR.join('.')} or later mends faults of its index. Upgrade before it is built, if you can.`,
          ]
        : []),
      ...(to.store === 'table' && hazards.allTables.length > 0
        ? [
            `The publication ${hazards.allTables.join(', ')} is FOR ALL TABLES and takes in freshvec's own: its subscribers need them, or should be given a list of tables.`,
          ]
        : []),
    ],
  };
}
