/** `target` with some of its methods exchanged; the others run as they are, on `target` itself. */
export function instead<T extends object>(target: T, over: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      if (name in over) return Reflect.get(over, name);
      const own = Reflect.get(target, name);
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
}
