// A real provider of identities (OpenID Connect), which can be told to do wrong.

import { createHmac, createPrivateKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const CLIENT = { client_id: "box", client_secret: "a secret of the box: 50 %+ sure" };
const KINDS = { RS256: ["rsa", { modulusLength: 2048 }], ES256: ["ec", { namedCurve: "P-256" }], EdDSA: ["ed25519"] };

/** People there, by the name that they sign in with. */
const PEOPLE = {
  anna: { email: "anna@example.com", email_verified: true, preferred_username: "anna", groups: ["staff", "ai"] },
  olga: { email: "olga@example.com", email_verified: true, preferred_username: "olga", groups: ["ai"] },
  ben: { email: "ben@example.com", email_verified: true, preferred_username: "ben", groups: ["ai"] },
  eve: { email: "eve@evil.example", email_verified: true, preferred_username: "eve", groups: ["ai"] },
  mallory: { email: "mallory@example.com", email_verified: false, preferred_username: "mallory", groups: ["ai"] },
  nobody: { email: "nobody@example.com", email_verified: true, preferred_username: "nobody", groups: ["staff"] },
};

export class Identities {
  /** What is done to the token, or `null`; and what is done to answers as a whole. */
  forge = null;
  answer = null;

  static async start() {
    const provider = new Identities();
    provider.server = createServer((request, response) => {
      if (provider.answer?.(request, response)) return;
      provider.handler(request, response);
    });
    await new Promise((resolve) => provider.server.listen(0, "localhost", resolve));
    provider.issuer = `http://localhost:${provider.server.address().port}`;
    return provider;
  }

  /** Serves a box, with new keys, of which one signs. */
  serve(box, algorithm = "RS256") {
    const [kind, options] = KINDS[algorithm];
    const { privateKey } = generateKeyPairSync(kind, options);
    this.key = { ...privateKey.export({ format: "jwk" }), kid: randomBytes(4).toString("hex"), alg: algorithm, use: "sig" };
    const client = {
      ...CLIENT,
      redirect_uris: [`${box}/auth/sso/callback`],
      id_token_signed_response_alg: algorithm,
    };
    const provider = new Provider(this.issuer, {
      clients: [client],
      jwks: { keys: [this.key] },
      cookies: { keys: ["test"] },
      pkce: { required: () => true },
      enabledJWA: { idTokenSigningAlgValues: Object.keys(KINDS) },
      claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["preferred_username", "groups"] },
      findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
    });
    provider.use(async (context, next) => {
      await next();
      if (context.path !== "/token" || !context.body?.id_token) return;
      this.last = context.body.id_token;
      if (this.forge) context.body.id_token = this.forge(this.last);
    });
    this.handler = provider.callback();
  }

  /** The token with other claims, signed as it was or otherwise. */
  signed(token, claims, { header = {}, key = this.key, secret } = {}) {
    const [head, body] = token.split(".").slice(0, 2).map((part) => JSON.parse(Buffer.from(part, "base64url")));
    const encode = (json) => Buffer.from(JSON.stringify(json)).toString("base64url");
    const content = `${encode({ ...head, ...header })}.${encode({ ...body, ...claims })}`;
    if (header.alg === "none") return `${content}.`;
    if (secret) return `${content}.${createHmac("sha256", secret).update(content).digest("base64url")}`;
    const signature = sign("sha256", Buffer.from(content), createPrivateKey({ key, format: "jwk" }));
    return `${content}.${signature.toString("base64url")}`;
  }

  get secret() {
    return CLIENT.client_secret;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
