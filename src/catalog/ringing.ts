/**
 * Two numbers: the key of the advisory lock that a transaction of the app's takes when it rings for a worker, until it has
 * ended. In migrations/0002 as well.
 */
export const RINGING = '6617, 1';
