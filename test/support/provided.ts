/** What the global setup hands to test files, and what test files hand to the report. */
declare module 'vitest' {
  interface ProvidedContext {
    /** A role that may create databases; itself not for tests. */
    postgresUrl: string;
    redisUrl: string;
    /** What the names of this run's databases begin with. */
    databasePrefix: string;
    templateDatabase: string;
    /** Holds this run's embedded databases, and the one they are copied from. */
    embeddedDirectory: string;
  }

  interface TaskMeta {
    /** How often a fault test injected its fault; 1 unless told. Shown by `npm run test:faults`. */
    tries?: number;
  }
}

export {};
