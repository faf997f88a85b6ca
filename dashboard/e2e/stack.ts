// What the tests are run against, handed from the global setup to the tests.

export interface User {
  email: string;
  password: string;
}

export interface Stack {
  url: string;
  admin: User;
  operator: User;
  observer: User;
}

declare module 'vitest' {
  export interface ProvidedContext {
    stack: Stack;
  }
}
