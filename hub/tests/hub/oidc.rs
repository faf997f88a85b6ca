//! Signing in with a service of others: a real provider, and a browser played by the test.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command as Program;

use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use testkit::{Person, Process, npm_with, wait_until};

use crate::support::*;

/// Where browsers see the hub; the browser of the test finds the way.
const PUBLIC: &str = "http://mesh.test";

/// A browser: cookies by host, and no redirect followed by itself.
struct Browser {
    http: reqwest::Client,
    hub: String,
    cookies: BTreeMap<(String, String), String>,
}

impl Browser {
    fn new(stack: &Stack) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, hub: stack.url(), cookies: BTreeMap::new() }
    }

    async fn send(&mut self, method: Method, url: &str, form: &[(&str, &str)]) -> reqwest::Response {
        let host = Url::parse(url).unwrap().authority().to_owned();
        let of_host = self.cookies.iter().filter(|((at, _), _)| *at == host);
        let cookies: Vec<_> = of_host.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut request =
            self.http.request(method, url.replace(PUBLIC, &self.hub)).header("cookie", cookies.join("; "));
        if !form.is_empty() {
            request = request.form(form);
        }
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all("set-cookie") {
            let (name, rest) = set.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            let key = (host.clone(), name.to_owned());
            if value.is_empty() {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        answer
    }

    /// Goes to the service and signs in there; the address it is sent back to.
    async fn sign_in_there(&mut self, login: &str) -> String {
        let mut answer = self.send(Method::GET, &format!("{PUBLIC}/api/auth/oidc/office"), &[]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let mut at = Url::parse(PUBLIC).unwrap();
        for _ in 0..20 {
            if let Some(to) = answer.headers().get("location") {
                at = at.join(to.to_str().unwrap()).unwrap();
                if at.as_str().starts_with(PUBLIC) {
                    return at.into();
                }
                answer = self.send(Method::GET, at.as_str(), &[]).await;
                continue;
            }
            let status = answer.status();
            let page = answer.text().await.unwrap();
            let prompt = if page.contains("name=\"login\"") { "login" } else { "consent" };
            assert!(page.contains("action=\""), "{status}: {page}");
            let action = page.split("action=\"").nth(1).unwrap();
            at = at.join(action.split('"').next().unwrap()).unwrap();
            let form = [("prompt", prompt), ("login", login), ("password", "x")];
            answer = self.send(Method::POST, at.as_str(), &form).await;
        }
        unreachable!("the service goes on and on");
    }

    fn person(&self, stack: &Stack) -> Person {
        let (_, value) = self.cookies.iter().find(|((_, name), _)| name == "mosaic_session").unwrap();
        Person::with_cookie(stack.url(), format!("mosaic_session={value}"))
    }
}

async fn provider(dir: &Path) -> (Process, String) {
    let package = npm_with("oidc-provider", &["oidc-provider@9.13.3"]).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/oidc_provider.mjs");
    let port_file = dir.join("oidc-port");
    let mut program = Program::new("node");
    program.arg(script).arg(package.join("node_modules/oidc-provider/lib/index.js")).arg(&port_file);
    program.arg(format!("{PUBLIC}/api/auth/oidc/office/callback"));
    let process = Process::spawn("oidc provider", &mut program, &dir.join("oidc.log")).unwrap();
    let port = wait_until("the provider tells its port", WAIT, async || {
        std::fs::read_to_string(&port_file).ok().filter(|text| !text.is_empty()).ok_or_else(|| process.log())
    })
    .await
    .unwrap();
    (process, format!("http://127.0.0.1:{port}"))
}

/// Configures the service, with further lines.
fn with_office(stack: &mut Stack, issuer: &str, more: &str) {
    std::fs::write(stack.dir.path().join("oidc-secret"), "a secret: of ours\n").unwrap();
    stack.hub_lines = format!("public_url = {PUBLIC:?}");
    stack.tables += &format!(
        "[[oidc]]\nname = \"office\"\nissuer = {issuer:?}\nclient_id = \"mesh\"\nclient_secret_file = \"oidc-secret\"\n\
         default_role = \"observer\"\nrole_claim = \"groups\"\ndomains = [\"example.org\"]\n{more}\n\
         [oidc.roles]\nchiefs = \"admin\"\n"
    );
}

#[tokio::test]
async fn cli_a_service_lets_people_into_its_workspace_and_no_other() {
    let (mut stack, _) = crate::workspaces::idle_two();
    let (_provider, issuer) = provider(stack.dir.path()).await;
    with_office(&mut stack, &issuer, "workspace = \"lab\"");
    stack.start_hub().await;
    let member = async |email: &str, person: &Person| {
        let users = person.get("/api/users").await.unwrap();
        users["users"].as_array().unwrap().iter().find(|u| u["email"] == email).map(|u| u["role"].clone())
    };
    let default = stack.sign_in("admin").await;
    let lab = stack.nobody().sign_in("lab@example.org", "passpass").await.unwrap();
    // Somebody new, somebody who is an admin there, and somebody who is known in the other workspace only.
    for (login, there, here) in
        [("somebody", "observer", None), ("chief", "admin", None), ("operator", "observer", Some("operator"))]
    {
        let mut browser = Browser::new(&stack);
        let back = browser.sign_in_there(login).await;
        assert_eq!(browser.send(Method::GET, &back, &[]).await.status(), StatusCode::SEE_OTHER, "{login}");
        let me = browser.person(&stack).in_workspace("lab").get("/api/auth/me").await.unwrap();
        assert_eq!((&me["workspace"], &me["role"]), (&json!("lab"), &json!(there)), "{login}");
        let email = format!("{login}@example.org");
        assert_eq!(member(&email, &lab).await, Some(json!(there)), "{login}");
        assert_eq!(member(&email, &default).await, here.map(Value::from), "{login}");
    }
    // Also for a browser that was in the other one before: it shows that cookie when it comes back.
    let body = json!({"email": "admin@example.org", "password": "adminadmin"});
    let answer = stack.nobody().send(Method::POST, "/api/auth/login", Some(&body)).await.unwrap();
    let set = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (name, value) = set.split_once('=').unwrap();
    let mut browser = Browser::new(&stack);
    browser.cookies.insert(("mesh.test".into(), name.to_owned()), value.to_owned());
    let back = browser.sign_in_there("far").await;
    assert_eq!(browser.send(Method::GET, &back, &[]).await.status(), StatusCode::FORBIDDEN);
    let signed_in = async |person: &Person| {
        let log = person.get("/api/mission-control/audit?action=signIn").await.unwrap();
        let of_office = |e: &&Value| e["metadata"]["service"] == "office";
        log["entries"].as_array().unwrap().iter().filter(of_office).count()
    };
    assert_eq!((signed_in(&lab).await, signed_in(&default).await), (4, 0), "each is in the log of that workspace");
}

#[tokio::test]
async fn cli_a_person_signs_in_with_a_service_of_others() {
    let mut stack = Stack::idle(testkit::NatsServer::start().unwrap());
    let (_provider, issuer) = provider(stack.dir.path()).await;
    with_office(&mut stack, &issuer, "");
    stack.start_hub().await;
    let services = stack.nobody().get("/api/auth/oidc").await.unwrap();
    assert_eq!(services, json!({"services": [{"name": "office", "url": "/api/auth/oidc/office"}]}));

    let mut roles = vec![];
    for login in ["somebody", "operator", "chief"] {
        let mut browser = Browser::new(&stack);
        let back = browser.sign_in_there(login).await;
        let done = browser.send(Method::GET, &back, &[]).await;
        assert_eq!(
            (done.status(), &done.headers()["location"]),
            (StatusCode::SEE_OTHER, &"/mission-control".parse().unwrap())
        );
        let me = browser.person(&stack).get("/api/auth/me").await.unwrap();
        assert_eq!(me["user"]["email"], format!("{login}@example.org"));
        roles.push((me["role"].as_str().unwrap().to_owned(), me["user"]["name"].as_str().unwrap().to_owned()));
        let again = browser.send(Method::GET, &back, &[]).await;
        assert_eq!(again.status(), StatusCode::UNAUTHORIZED, "what came back is good once");
    }
    let told: Vec<_> = roles.iter().map(|(role, name)| (role.as_str(), name.as_str())).collect();
    // Who is known already, by a verified email, stays who they are.
    assert_eq!(told, [("observer", "Name of somebody"), ("operator", "OPERATOR"), ("admin", "Name of chief")]);

    for (login, code) in [("unverified", "notLetIn"), ("far", "notLetIn")] {
        let mut browser = Browser::new(&stack);
        let back = browser.sign_in_there(login).await;
        let answer = browser.send(Method::GET, &back, &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{login}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], code);
    }
    // What one browser brought back is nothing in another, nor with another state or code.
    let mut victim = Browser::new(&stack);
    let back = Browser::new(&stack).sign_in_there("somebody").await;
    for (browser, url) in [(&mut victim, back.clone()), (&mut Browser::new(&stack), back.replace("state=", "state=x"))]
    {
        assert_eq!(browser.send(Method::GET, &url, &[]).await.status(), StatusCode::UNAUTHORIZED);
    }
    let mut own = Browser::new(&stack);
    let own_back = own.sign_in_there("somebody").await;
    let stolen = format!("{own_back}&").replace("code=", "code=x");
    assert_eq!(own.send(Method::GET, &stolen, &[]).await.status(), StatusCode::UNAUTHORIZED);

    // Who was taken out is not let in again.
    let admin = stack.sign_in("admin").await;
    let users = admin.get("/api/users").await.unwrap();
    let somebody = users["users"].as_array().unwrap().iter().find(|u| u["email"] == "somebody@example.org").unwrap();
    let path = format!("/api/users/{}", somebody["userId"].as_str().unwrap());
    assert_eq!(admin.send(Method::DELETE, &path, None).await.unwrap().status(), StatusCode::NO_CONTENT);
    let mut browser = Browser::new(&stack);
    let back = browser.sign_in_there("somebody").await;
    assert_eq!(browser.send(Method::GET, &back, &[]).await.status(), StatusCode::FORBIDDEN);
    let log = admin.get("/api/mission-control/audit?action=signIn").await.unwrap();
    let office = log["entries"].as_array().unwrap().iter().filter(|e| e["metadata"]["service"] == "office");
    let results: Vec<_> = office.map(|e| e["result"].as_str().unwrap()).collect();
    assert!(results.contains(&"ok") && results.contains(&"refused"), "{results:?}");
}
