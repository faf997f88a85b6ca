// A real OpenID provider for tests: `oidc-provider` with its own sign-in pages, where every name is let in.
// node oidc_provider.mjs MODULE PORT_FILE CALLBACK
import http from "node:http";
import { writeFileSync } from "node:fs";

const [module, portFile, callback] = process.argv.slice(2);
const { Provider } = await import(module);
const server = http.createServer();
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [{ client_id: "mesh", client_secret: "a secret: of ours", redirect_uris: [callback] }],
    claims: { openid: ["sub"], email: ["email", "email_verified", "groups"], profile: ["name"] },
    pkce: { required: () => true },
    cookies: { keys: ["only for tests"] },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        name: `Name of ${id}`,
        email: `${id}@${id === "far" ? "elsewhere.org" : "example.org"}`,
        email_verified: id !== "unverified",
        groups: id === "chief" ? ["staff", "chiefs"] : ["staff"],
      }),
    }),
  });
  server.on("request", provider.callback());
  writeFileSync(portFile, String(port));
});
