/** One private server, apart from its protocol: it can be ended and begun again on the same data and the same port. */
export interface Engine {
  /** Undefined while it is down. */
  readonly pid: number | undefined;
  /** Begins the process; it need not answer yet when this resolves. */
  begin(): Promise<void>;
  /** Sends the signal and waits until the server and its children are gone. Nothing happens when it is down. */
  end(signal: NodeJS.Signals): Promise<void>;
  /** The end of its log, for error messages. */
  logTail(): Promise<string>;
  /** Removes all that it left on disk. */
  remove(): Promise<void>;
}
