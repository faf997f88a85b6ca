// The address bar: what a colleague should see when you send the link.

import { page, type Page } from '../routes.ts';

export class Router {
  page = $state.raw<Page>(page.parse(location.pathname));

  constructor() {
    addEventListener('popstate', () => (this.page = page.parse(location.pathname)));
  }

  go(where: Page): void {
    const href = page.href(where);
    if (href !== location.pathname) history.pushState(null, '', href);
    this.page = where;
  }
}
